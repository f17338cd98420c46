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
from rayline.features.sketches.limbs import CHUNK, pieces, unit
from rayline.features.sketches.seam import readable

NUMBERS = 1 << 14  # of a chunk: its working set stays in the processor's cache
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
        total, squares = _Sums(width), _Sums(width)
        rows = min(CHUNK, max(NUMBERS // max(width, 1), 1))
        for start in range(0, len(arrays), rows):
            part = arrays[start : start + rows].astype(np.float64)
            total.add(part)
            for term in _squares(part, exact_in_one=arrays.dtype == np.float32):
                squares.add(term)
        return cls(len(arrays), total.exact(), squares.exact())

    def merged(self, other: VectorMoments) -> VectorMoments:
        """Return the moments of both sets of arrays together. Raises ``SchemaError`` for another length."""
        if len(self.total) != len(other.total):
            raise SchemaError(
                f"moments of arrays of {len(self.total)} and of {len(other.total)} numbers cannot be merged: "
                "fit with one schema."
            )
        total, squares = (_added(*each) for each in ((self.total, other.total), (self.squares, other.squares)))
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


class _Sums:
    """The exact sums of columns, by limb."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.limbs: dict[int, NDArray[np.int64]] = {}

    def add(self, values: Doubles) -> None:
        for limb, piece in pieces(values):
            known = self.limbs.setdefault(limb, np.zeros(self.width, dtype=np.int64))
            known += piece.sum(axis=0).astype(np.int64)

    def exact(self) -> tuple[Fraction, ...]:
        sums = [Fraction(0)] * self.width
        for limb, found in self.limbs.items():
            sums = [total + each * unit(limb) for total, each in zip(sums, found.tolist(), strict=True)]
        return tuple(sums)


def _added(first: tuple[Fraction, ...], second: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    return tuple(one + other for one, other in zip(first, second, strict=True))
