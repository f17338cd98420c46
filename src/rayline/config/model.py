"""``model``: what is trained. One word, ``builder``, decides the family and which other settings apply."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rayline.config.section import Positive, Section


class ResidualMlpOptions(Section, frozen=True, kw_only=True):
    """``model.options`` of ``residual_mlp``: blocks with skip connections, and an embedding for each ``index`` column.

    Attributes:
        width: of every block.
        blocks: how many.
        embedding: numbers per level of a column encoded as ``index``; None takes ``min(50, (levels + 1) // 2)``.
    """

    width: Positive = 64
    blocks: Positive = 2
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    embedding: Positive | None = None


class CnnOptions(Section, frozen=True, kw_only=True):
    """``model.options`` of ``cnn``: 3 by 3 convolutions with pooling, then one hidden layer.

    Attributes:
        channels: of each convolution, in order.
        hidden: width of the layer after them.
        shape: ``[height, width]`` or ``[height, width, channels]`` that the inputs are; None takes that of the one
            ``image`` column, or the square that they fill.
    """

    channels: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (16, 32)
    hidden: Positive = 64
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    shape: tuple[Positive, ...] | None = None


OPTIONS: dict[str, type[Section]] = {"residual_mlp": ResidualMlpOptions, "cnn": CnnOptions}
"""The sections that ``model.options`` must be for a ready-made builder."""


class ModelConfig(Section, frozen=True, kw_only=True):
    """What is trained.

    Attributes:
        builder: ``mlp`` (with ``hidden`` and ``dropout``), ``residual_mlp``, ``cnn``, ``xgboost``, a scikit-learn
            estimator as ``sklearn.ensemble:HistGradientBoostingClassifier``, or a function of your own that gives a
            PyTorch module, as ``my_package.my_module:build``.
        options: what the builder takes: its own section for a ready-made one, else keyword arguments.
    """

    builder: str = "mlp"
    hidden: tuple[Positive, ...] = (64, 32)
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    options: dict[str, Any] = {}

    def __post_init__(self) -> None:
        section = OPTIONS.get(self.builder)
        if section is not None:
            try:
                msgspec.convert(self.options, section)
            except msgspec.ValidationError as error:
                raise ValueError(f"options of '{self.builder}': {error}") from error
