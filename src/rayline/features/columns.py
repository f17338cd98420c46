"""Fitted columns: how one input column becomes numbers, in a batch and in one row.

Each kind has two paths over the same state and the same order of float64 operations, so that they agree bit for bit:
``batch`` writes a whole Arrow column, ``filler`` returns a closure that writes one request value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rayline.errors import RowError
from rayline.features import arrow_values, canonical
from rayline.features.arrow_values import LIMIT, RULES

Filler = Callable[[Mapping[str, Any], list[float]], None]

UNKNOWN = "<unknown>"
MISSING = "<missing>"
FARTHEST = 1e6  # standard deviations; what lies beyond is cut, so that no network overflows
LARGEST = 3e38  # what a 32-bit float holds


class FittedColumn(Protocol):
    """The seam of column kinds: ``name`` in, ``output_names`` out."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def output_names(self) -> tuple[str, ...]: ...

    def batch(self, array: Any, out: NDArray[np.float32]) -> None:
        """Write an Arrow column into ``out``: float32 (n, width), zeros on entry. Raises ``RowError``."""
        ...

    def filler(self, offset: int) -> Filler:
        """Return a closure that writes one row's value at ``offset`` of a list of zeros. It raises ``RowError``."""
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Scale:
    """Standardisation ``(value - mean) / std``, cut to ``bound`` on both sides."""

    mean: float = 0.0
    std: float = 1.0
    bound: float = FARTHEST

    def many(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale an array of doubles."""
        return np.clip((values - self.mean) / self.std, -self.bound, self.bound)

    def one(self, value: float) -> float:
        """Scale one number."""
        return min(max((value - self.mean) / self.std, -self.bound), self.bound)


@dataclass(frozen=True, slots=True)
class NumericColumn:
    """One number: a missing value becomes ``fill``, then the scale applies."""

    name: str
    scale: Scale
    fill: float
    kind: str = "numeric"

    @property
    def output_names(self) -> tuple[str, ...]:
        """The column's own name."""
        return (self.name,)

    def batch(self, array: Any, out: NDArray[np.float32]) -> None:
        """See ``FittedColumn``."""
        values = arrow_values.checked(arrow_values.numbers, array, self.name, RULES["numeric"])
        out[:, 0] = self.scale.many(np.where(values.missing, self.fill, values.data))

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        name, mean, std, bound = self.name, self.scale.mean, self.scale.std, self.scale.bound
        scale, missing = self.scale, self.scale.one(self.fill)

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            value = row[name]
            if (value.__class__ is float or value.__class__ is int) and -LIMIT < value < LIMIT:
                scaled = (value - mean) / std
                out[offset] = scaled if -bound < scaled < bound else scale.one(value)
            else:
                found = _read(canonical.number, value, name, RULES["numeric"])
                if found is not None and not -LIMIT < found < LIMIT:
                    raise RowError(0, name, value, RULES["numeric"])
                out[offset] = missing if found is None else scale.one(found)

        return fill

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"kind": self.kind, "name": self.name, "fill": self.fill, **_scale_json(self.scale)}


@dataclass(frozen=True, slots=True)
class CategoricalColumn:
    """One column per level, one for levels that the fit has not kept, one for missing values."""

    name: str
    levels: tuple[str, ...]
    kind: str = "categorical"

    @property
    def output_names(self) -> tuple[str, ...]:
        """``name=level`` for each level, then ``name=<unknown>`` and ``name=<missing>``."""
        return tuple(f"{self.name}={level}" for level in (*self.levels, UNKNOWN, MISSING))

    def batch(self, array: Any, out: NDArray[np.float32]) -> None:
        """See ``FittedColumn``."""
        values = arrow_values.checked(arrow_values.levels, array, self.name, RULES["categorical"])
        slots = {level: slot for slot, level in enumerate(self.levels)}
        unknown = len(self.levels)
        lookup = np.array([*(slots.get(text, unknown) for text in values.texts), unknown + 1], dtype=np.int64)
        out[np.arange(len(out)), lookup[np.where(values.missing, -1, values.data)]] = 1.0

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        name, unknown = self.name, offset + len(self.levels)
        slots = {level: offset + slot for slot, level in enumerate(self.levels)}
        by_text, by_int = slots.get, {int(text): slot for text, slot in slots.items() if _is_int(text)}.get

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            value = row[name]
            slot = by_text(value) if value.__class__ is str else by_int(value) if value.__class__ is int else None
            if slot is None:
                text = _read(canonical.level_text, value, name, RULES["categorical"])
                slot = unknown + 1 if text is None else by_text(text, unknown)
            out[slot] = 1.0

        return fill

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"kind": self.kind, "name": self.name, "levels": list(self.levels)}


@dataclass(frozen=True, slots=True)
class BooleanColumn:
    """0 or 1; a missing value becomes the share of true rows in the training part."""

    name: str
    fill: float
    kind: str = "boolean"

    @property
    def output_names(self) -> tuple[str, ...]:
        """The column's own name."""
        return (self.name,)

    def batch(self, array: Any, out: NDArray[np.float32]) -> None:
        """See ``FittedColumn``."""
        values = arrow_values.checked(arrow_values.truths, array, self.name, RULES["boolean"])
        out[:, 0] = np.where(values.missing, self.fill, values.data)

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        name, missing = self.name, self.fill

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            value = row[name]
            if value is True or value is False:
                out[offset] = float(value)
            else:
                found = _read(canonical.truth, value, name, RULES["boolean"])
                out[offset] = missing if found is None else float(found)

        return fill

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"kind": self.kind, "name": self.name, "fill": self.fill}


def _read(read: Callable[[object], Any], value: object, name: str, rule: str) -> Any:
    try:
        return read(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise RowError(0, name, value, rule) from error


def _is_int(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _scale_json(scale: Scale) -> dict[str, float]:
    return {"mean": scale.mean, "std": scale.std, "bound": scale.bound}
