"""Count, means and deviations of arrays of one length, element by element."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rayline.errors import SchemaError
from rayline.features.sketches.seam import readable

ROWS = 1 << 14  # added up at a time, at most
NUMBERS = 1 << 18  # of a chunk: its working set stays in the processor's cache
HALF = 134217729.0  # 2**27 + 1 cuts a double into two halves (Dekker 1971)

Doubles = NDArray[np.float64]


@readable
@dataclass(frozen=True, slots=True)
class VectorMoments:
    """Count, and exact sums of the elements and of their squares: one for each place in the arrays."""

    kind: ClassVar[str] = "vector_moments"

    count: int
    total: tuple[Fraction, ...]
    squares: tuple[Fraction, ...]

    @classmethod
    def of(cls, arrays: NDArray[Any]) -> VectorMoments:
        """Return the moments of arrays: float64 or float32 (n, width), finite, each up to 1e100 in size."""
        width = arrays.shape[1]
        total, squares = _zeros(width), _zeros(width)
        rows = min(ROWS, max(NUMBERS // max(width, 1), 1))
        for start in range(0, len(arrays), rows):
            part = arrays[start : start + rows].astype(np.float64)
            total = _added(total, _sums(part))
            for term in _squares(part, exact_in_one=arrays.dtype == np.float32):
                squares = _added(squares, _sums(term))
        return cls(len(arrays), total, squares)

    def merged(self, other: VectorMoments) -> VectorMoments:
        """Return the moments of both sets of arrays together. Raises ``SchemaError`` for another length."""
        if len(self.total) != len(other.total):
            raise SchemaError(
                f"moments of arrays of {len(self.total)} and of {len(other.total)} numbers cannot be merged: "
                "fit with one schema."
            )
        total, squares = _added(self.total, other.total), _added(self.squares, other.squares)
        return VectorMoments(self.count + other.count, total, squares)

    @property
    def means(self) -> tuple[float, ...]:
        """By place; 0 where there are no arrays."""
        return tuple(float(total / max(self.count, 1)) for total in self.total)

    @property
    def deviations(self) -> tuple[float, ...]:
        """Population standard deviations by place; 0 where nothing varies."""
        count, pairs = max(self.count, 1), zip(self.total, self.squares, strict=True)
        variances = (float(squares / count - (total / count) * (total / count)) for total, squares in pairs)
        return tuple(math.sqrt(max(variance, 0.0)) for variance in variances)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, exact."""
        total, squares = ([str(each) for each in sums] for sums in (self.total, self.squares))
        return {"kind": self.kind, "count": self.count, "total": total, "squares": squares}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> VectorMoments:
        """Return the moments of ``to_json``'s values."""
        total, squares = (tuple(map(Fraction, raw[name])) for name in ("total", "squares"))
        return cls(raw["count"], total, squares)


def _squares(values: Doubles, *, exact_in_one: bool) -> tuple[Doubles, ...]:
    """Return terms whose sum is exactly the squares; one is enough for numbers of 32 bits."""
    if exact_in_one:
        return (values * values,)
    spread = values * HALF
    high = spread - (spread - values)
    low = values - high
    return high * high, 2 * high * low, low * low


def _sums(values: Doubles) -> list[Fraction]:
    """Return the exact sum of each column, as ``exact.exact_sums`` does of one."""
    totals = [Fraction(0)] * values.shape[1]
    largest = np.abs(values).max(axis=0, initial=0.0)
    while largest.any():
        # On this grid every part is a multiple of one unit and a column of them has at most 53 bits in sum.
        grid = np.ldexp(1.0, np.frexp(largest)[1] + ROWS.bit_length() + 1)
        part = (values + grid) - grid
        totals = [total + Fraction(each) for total, each in zip(totals, part.sum(axis=0).tolist(), strict=True)]
        values = values - part
        largest = np.abs(values).max(axis=0, initial=0.0)
    return totals


def _zeros(width: int) -> tuple[Fraction, ...]:
    return (Fraction(0),) * width


def _added(first: tuple[Fraction, ...], second: Any) -> tuple[Fraction, ...]:
    return tuple(one + other for one, other in zip(first, second, strict=True))
