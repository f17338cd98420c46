"""What a user implements, and the ready-made models.

A builder is a function ``build(inputs, outputs, **options) -> torch.nn.Module``. The module maps float32 (n, inputs) to
float32 (n, outputs): logits for a classification (one output for two classes), the standardised value for a regression.
A builder with a parameter ``layout`` gets the ``InputLayout`` too.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rayline.config import ModelConfig, Task
from rayline.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from torch import nn

READY_MADE = ("mlp", "residual_mlp", "cnn", "xgboost")

Family = Literal["torch", "sklearn", "xgboost"]


@dataclass(frozen=True, slots=True)
class InputGroup:
    """Neighbouring numbers of the input that one feature gives.

    Attributes:
        feature: its name.
        kind: ``number``; ``index``, one number that is the place of a level, for an embedding; ``image``, the elements
            of an array in row-major order.
        start: place of the first number.
        width: how many numbers.
        levels: of an ``index``, how many places there are, unknown and missing among them; else 0.
        shape: of an ``image``, (height, width) or (height, width, channels); else empty.
    """

    feature: str
    kind: Literal["number", "index", "image"]
    start: int
    width: int
    levels: int = 0
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class InputLayout:
    """What each number of a model's input, float32 (n, width), stands for."""

    groups: tuple[InputGroup, ...]

    @property
    def width(self) -> int:
        """How many numbers."""
        return sum(group.width for group in self.groups)

    @classmethod
    def plain(cls, width: int) -> InputLayout:
        """Return the layout of so many numbers of which nothing else is known."""
        return cls((InputGroup("x", "number", 0, width),))


def family_of(builder: str) -> Family:
    """Return the family of a ``model.builder``: which library trains it, and what its bundle holds."""
    if builder.startswith("sklearn."):
        return "sklearn"
    return "xgboost" if builder == "xgboost" else "torch"


def outputs_for(task: Task, classes: Sequence[str]) -> int:
    """Return how many numbers a network must give for a task: one for each class of several, else one."""
    return len(classes) if task == "multiclass" else 1


def build_module(model: ModelConfig, layout: InputLayout, outputs: int) -> nn.Module:
    """Build the configured network with fresh weights.

    Args:
        model: of the family ``torch``. A builder of the user's own gets ``layout`` where its signature names it.
        layout: what each number of the input stands for.
        outputs: how many numbers it must give.

    Raises:
        ConfigError: the builder cannot be found, refuses its options, or gives no torch module.
    """
    from torch import nn

    if model.builder in READY_MADE:
        from rayline.modules.ready import ready_made

        return ready_made(model, layout, outputs)
    builder = imported(model.builder)
    options = {**model.options, "layout": layout} if _takes_layout(builder) else model.options
    try:
        module = builder(layout.width, outputs, **options)
    except TypeError as error:
        raise ConfigError(
            f"model.builder '{model.builder}' cannot be called as build(inputs, outputs, **model.options): {error}."
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"model.builder '{model.builder}' must return a torch.nn.Module, not {type(module).__name__}."
        )
    _check_shape(module, model.builder, layout.width, outputs)
    return module


def _takes_layout(builder: Any) -> bool:
    try:
        return "layout" in inspect.signature(builder).parameters
    except (TypeError, ValueError):  # no callable, or one whose signature nobody knows
        return False


def _check_shape(module: nn.Module, builder: str, inputs: int, outputs: int) -> None:
    """Run two rows through, so that a wrong last layer is told here and not as an error within the loss."""
    import torch

    rule = f"its module must map float32 (n, {inputs}) to float32 (n, {outputs})"
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            result = module(torch.zeros(2, inputs))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"model.builder '{builder}': {rule}, and raises {type(error).__name__}: {error}.") from error
    finally:
        module.train(training)
    shape = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
    if shape != (2, outputs):
        raise ConfigError(f"model.builder '{builder}': {rule}, and makes {shape} of two rows.")


def source_digest(model: ModelConfig) -> str | None:
    """Return a digest of the file that a user's builder lies in; None for a ready-made model or where there is none."""
    own = model.builder not in READY_MADE and family_of(model.builder) == "torch"
    return file_digest(model.builder) if own else None


def file_digest(path: str) -> str | None:
    """Return a digest of the file that ``my_package.my_module:name`` lies in; None where there is none."""
    try:
        found = importlib.util.find_spec(path.partition(":")[0])
    except (ImportError, ValueError):
        return None
    if found is None or found.origin is None or not Path(found.origin).is_file():
        return None
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()


def imported(path: str) -> Any:
    """Return what ``module:attribute`` names. Raises ``ConfigError`` where there is none, with the nearest name."""
    name, colon, attribute = path.partition(":")
    if not (name and colon and attribute) or name.startswith("."):
        raise ConfigError(
            f"model.builder '{path}' must be one of the ready-made ({', '.join(READY_MADE)}) or read "
            f"my_package.my_module:build. {suggestion(path, READY_MADE)}"
        )
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"model.builder '{path}': module '{name}' cannot be imported ({error}). It must lie beside the "
            "configuration file or be installed."
        ) from error
    if not hasattr(module, attribute):
        known = [each for each in vars(module) if not each.startswith("_")]
        raise ConfigError(
            f"model.builder '{path}': module '{name}' has no '{attribute}'. {suggestion(attribute, known)}"
        )
    return getattr(module, attribute)
