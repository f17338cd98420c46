"""A copy of weights and of what trains them, as tensors and JSON: it holds no pickle, so that loading runs no code.

``model.safetensors`` holds the module's state; ``parts.safetensors`` and ``parts.json`` that of the optimizer and of
whatever else has ``state_dict`` and ``load_state_dict``. Sharded weights (FSDP2) are gathered and divided again, so
that a checkpoint fits any number of workers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rayline.errors import ConfigError, TrainingFailed
from rayline.training.checkpoint import WEIGHTS

PARTS = "parts.safetensors"
OUTLINE = "parts.json"
_TENSOR, _TUPLE, _DICT, _COUNTER = "tensor", "tuple", "dict", "counter"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy in memory: later steps change nothing in it. Called with a folder, it writes itself there.

    Attributes:
        weights: of the module, by name, on the CPU.
        tensors: of the parts, by number.
        outline: how the parts are made of them; JSON-ready.
    """

    weights: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    outline: Mapping[str, Any]

    @classmethod
    def of(cls, module: nn.Module, parts: Mapping[str, Any]) -> Snapshot:
        """Copy a module and its parts. Where the module is sharded, every worker must call it.

        Raises:
            ConfigError: a part's ``state_dict()`` holds something that is neither tensor nor JSON.
        """
        weights = {name: _copied(each) for name, each in module.state_dict().items() if isinstance(each, Tensor)}
        tensors: dict[str, Tensor] = {}
        outline = {name: _flat(part.state_dict(), tensors, name) for name, part in parts.items()}
        return cls(weights, tensors, outline)

    @property
    def size(self) -> int:
        """Bytes that it takes, in memory and on disk."""
        return sum(each.numel() * each.element_size() for each in (*self.weights.values(), *self.tensors.values()))

    def __call__(self, folder: Path) -> None:
        """Write the three files."""
        save_file(dict(self.weights), folder / WEIGHTS)
        save_file(dict(self.tensors), folder / PARTS)
        (folder / OUTLINE).write_text(json.dumps(self.outline), encoding="utf-8")


def load_weights(folder: Path, module: nn.Module) -> None:
    """Fill a module from a checkpoint. Raises ``TrainingFailed`` where it is of another model."""
    state = module.state_dict()
    weights = {name: _divided(each, state.get(name)) for name, each in load_file(folder / WEIGHTS).items()}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingFailed(
            f"the checkpoint '{folder}' is of another model ({str(error).splitlines()[-1].strip()}). Has the model's "
            "code changed since? Start over with --fresh."
        ) from error


def load_part(folder: Path, name: str, part: Any) -> None:
    """Fill one part from a checkpoint.

    Raises:
        ConfigError: the checkpoint holds no such part.
    """
    outline = json.loads((folder / OUTLINE).read_text(encoding="utf-8"))
    if name not in outline:
        raise ConfigError(
            f"the checkpoint '{folder}' holds no '{name}', only {', '.join(map(repr, outline)) or 'the model'}. "
            "Keep the same parts as before, or start over with --fresh."
        )
    state = _deep(outline[name], load_file(folder / PARTS))
    if isinstance(part, torch.optim.Optimizer):
        state = _sharded_state(state, part)
    part.load_state_dict(state)


def sharded(module: nn.Module) -> bool:
    """Return whether a module's weights are divided among the workers (FSDP2)."""
    return any(_is_sharded(weight) for weight in module.parameters())


def _copied(tensor: Tensor) -> Tensor:
    whole = tensor.full_tensor() if _is_sharded(tensor) else tensor
    # Copies: later steps change the tensor, and safetensors refuses tensors that share memory, as tied weights do.
    copy: Tensor = whole.detach().cpu().clone(memory_format=torch.contiguous_format)
    return copy


def _is_sharded(tensor: Any) -> bool:
    return hasattr(tensor, "full_tensor") and hasattr(tensor, "placements")


def _divided(whole: Tensor, like: Any) -> Tensor:
    if not _is_sharded(like):
        return whole
    from torch.distributed.tensor import distribute_tensor

    # Every worker has read the same file, so that nothing need be sent.
    divided: Tensor = distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return divided


def _sharded_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for place, values in state["state"].items():
        weight = weights[int(place)]
        for key, value in values.items():
            if _is_sharded(weight) and isinstance(value, Tensor) and value.shape == weight.shape:
                values[key] = _divided(value, weight)
    return state


def _flat(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    """Return a value as JSON, with its tensors set aside by number."""
    if isinstance(value, Tensor):
        number = str(len(tensors))
        tensors[number] = _copied(value)
        return {_TENSOR: number}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_flat(each, tensors, f"{where}[{place}]") for place, each in enumerate(value)]
    if isinstance(value, tuple):
        return {_TUPLE: [_flat(each, tensors, f"{where}[{place}]") for place, each in enumerate(value)]}
    if isinstance(value, dict):
        kind = _COUNTER if isinstance(value, Counter) else _DICT
        return {
            kind: [[_flat(key, tensors, where), _flat(each, tensors, f"{where}.{key}")] for key, each in value.items()]
        }
    raise ConfigError(
        f"what is to be kept in a checkpoint holds a {type(value).__name__} at '{where}'. state_dict() may give "
        "tensors, numbers, text, None, lists, tuples and dicts of them: a checkpoint holds no pickled code."
    )


def _deep(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_deep(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == _TENSOR:
        return tensors[inner]
    if kind == _TUPLE:
        return tuple(_deep(each, tensors) for each in inner)
    pairs = {_deep(key, tensors): _deep(each, tensors) for key, each in inner}
    return Counter(pairs) if kind == _COUNTER else pairs
