"""One training goes on from another one's checkpoints."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from rayline import storage
from rayline.training.checkpoint import FOLDER, epochs, folder_of


def inherit(source: Path, heir: Path) -> None:
    """Replace the checkpoints of a training by those of another one, whole.

    Files are linked where the file system can: a checkpoint's files are never written again. Done twice it is as done
    once; a writer that is killed leaves the heir without checkpoints for a moment at most, and is to do it again.
    """
    heir.mkdir(parents=True, exist_ok=True)
    draft = heir / f".{FOLDER}-{uuid.uuid4().hex[:8]}"
    for epoch in epochs(source):
        storage.fetch(folder_of(source, epoch))
    shutil.copytree(source / FOLDER, draft, copy_function=_link)
    shutil.rmtree(heir / FOLDER, ignore_errors=True)
    storage.forget(heir / FOLDER)
    os.rename(draft, heir / FOLDER)
    for epoch in epochs(heir):
        storage.keep(folder_of(heir, epoch))
    for left in heir.glob(f".{FOLDER}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
