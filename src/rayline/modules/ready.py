"""From a configuration and what the input's numbers stand for to a ready-made module."""

from __future__ import annotations

from collections.abc import Iterable
from math import isqrt, prod
from typing import TYPE_CHECKING

import msgspec

from rayline.config import ModelConfig
from rayline.config.model import CnnOptions, ResidualMlpOptions
from rayline.errors import ConfigError
from rayline.modules.columns import Level

if TYPE_CHECKING:
    from torch import nn

    from rayline.model import InputGroup, InputLayout

MOST_EMBEDDED = 50


def ready_made(model: ModelConfig, layout: InputLayout, outputs: int) -> nn.Module:
    """Build the ready-made module that ``model.builder`` names, with fresh weights.

    Raises:
        ConfigError: its options do not fit, or there is no image in the inputs for ``cnn``.
    """
    if model.builder == "residual_mlp":
        return _residual_mlp(msgspec.convert(model.options, ResidualMlpOptions), layout, outputs)
    if model.builder == "cnn":
        return _cnn(msgspec.convert(model.options, CnnOptions), layout, outputs)
    from rayline.modules.mlp import Mlp

    if model.options:
        raise ConfigError(
            f"model.options ({', '.join(model.options)}) are for a builder of your own; 'mlp' takes model.hidden "
            "and model.dropout."
        )
    return Mlp(layout.width, outputs, model.hidden, model.dropout)


def _residual_mlp(options: ResidualMlpOptions, layout: InputLayout, outputs: int) -> nn.Module:
    from rayline.modules.residual_mlp import ResidualMlp

    return ResidualMlp(
        _stretches(group for group in layout.groups if group.kind != "index"),
        _levels(layout, options.embedding),
        outputs,
        width=options.width,
        blocks=options.blocks,
        dropout=options.dropout,
    )


def _cnn(options: CnnOptions, layout: InputLayout, outputs: int) -> nn.Module:
    from rayline.modules.cnn import Cnn

    start, end, shape = image_of(layout, options.shape)
    others = [group for group in layout.groups if group.kind != "index" and not start <= group.start < end]
    return Cnn(
        (start, end),
        shape,
        _stretches(others),
        _levels(layout, None),
        outputs,
        channels=options.channels,
        hidden=options.hidden,
        dropout=options.dropout,
    )


def image_of(layout: InputLayout, shape: tuple[int, ...] | None) -> tuple[int, int, tuple[int, int, int]]:
    """Return the first and the end of the image's numbers, and its height, width and channels.

    It is the one ``image`` column, else all columns of plain numbers, which must lie side by side and fill ``shape``,
    or a square where that is None.

    Raises:
        ConfigError: there is no image, there are several, or its numbers do not fill the shape.
    """
    images = [group for group in layout.groups if group.kind == "image"]
    if len(images) > 1:
        names = ", ".join(f"'{group.feature}'" for group in images)
        raise ConfigError(f"'cnn' takes one image, and the inputs hold {len(images)} ({names}). Drop all but one.")
    if shape is not None and len(shape) not in (2, 3):
        raise ConfigError(f"model.options.shape {list(shape)} must be [height, width] or [height, width, channels].")
    if images:
        return _filled(images[0].start, images[0].width, shape or images[0].shape, f"image '{images[0].feature}'")
    stretches = _stretches(group for group in layout.groups if group.kind == "number")
    if len(stretches) != 1:
        raise ConfigError(
            "'cnn' needs an image: a column of the kind image, or columns of numbers that lie side by side, and the "
            f"inputs hold {'no such numbers' if not stretches else 'numbers apart from one another'}. "
            "Declare the image's column under features.columns, or take 'mlp' or 'residual_mlp'."
        )
    start, end = stretches[0]
    side = isqrt(end - start)
    if shape is None and (side < 2 or side * side != end - start):
        raise ConfigError(
            f"'cnn' needs an image, and the {end - start} numbers of the inputs fill no square. Declare the image's "
            "column under features.columns, give model.options.shape, or take 'mlp' or 'residual_mlp'."
        )
    return _filled(start, end - start, shape or (side, side), "the inputs' numbers")


def _filled(start: int, width: int, shape: tuple[int, ...], name: str) -> tuple[int, int, tuple[int, int, int]]:
    if prod(shape) != width:
        raise ConfigError(
            f"model.options.shape {list(shape)} has {prod(shape)} elements, and {name} {width}. "
            "Give the height, width and channels that they fill."
        )
    height, across, *channels = shape
    return start, start + width, (height, across, channels[0] if channels else 1)


def _levels(layout: InputLayout, embedding: int | None) -> list[Level]:
    return [
        Level(group.start, group.levels, embedding or min(MOST_EMBEDDED, (group.levels + 1) // 2))
        for group in layout.groups
        if group.kind == "index"
    ]


def _stretches(groups: Iterable[InputGroup]) -> list[tuple[int, int]]:
    """Return the first and the end of each stretch that neighbouring groups fill, in order."""
    found: list[tuple[int, int]] = []
    for group in groups:
        if found and found[-1][1] == group.start:
            found[-1] = (found[-1][0], group.start + group.width)
        else:
            found.append((group.start, group.start + group.width))
    return found
