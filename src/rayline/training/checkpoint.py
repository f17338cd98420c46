"""A checkpoint is a directory with ``model.safetensors`` and ``state.json``, written aside and renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"
STATE = "state.json"


def save(folder: Path, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint in place of the one that is there, which stays whole where writing fails.

    A folder cannot be replaced in one step: a writer killed between the two renames leaves the old checkpoint whole
    under its ``.old`` name, and none under its own.
    """
    from safetensors.torch import save_file

    draft = folder.with_name(f".{folder.name}.{os.getpid()}.draft")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        # Copies: safetensors refuses tensors that share memory, as tied weights do.
        save_file(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, draft / WEIGHTS
        )
        (draft / STATE).write_text(json.dumps(dict(state), indent=1), encoding="utf-8")
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    draft.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder
