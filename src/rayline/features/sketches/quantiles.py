"""Quantiles of numbers, from counts in buckets that are fixed before the first number is seen.

Buckets are spaced evenly by the leading bits of a number's distance from a centre, as in HdrHistogram (Tene) and
DDSketch (Masson, Rim and Lee 2019), so that merging adds counts: exact, deterministic and free of order, which KLL and
t-digest are not. A quantile is within 1/256 of its distance from the centre, or within ``unit`` / 2**32 of the centre
itself. Ranks at the borders of buckets are exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rayline.errors import SchemaError
from rayline.features.sketches.seam import readable

BITS = 8  # of the mantissa: 256 buckets for each doubling of the distance
SHIFT = 52 - BITS
MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)
CHUNK = 1 << 14  # values at a time: they stay in the processor's cache
FINEST = 2.0**-32  # of the unit: nearer to the centre is one bucket


@readable
@dataclass(frozen=True, slots=True, eq=False)
class Quantiles:
    """Counts by bucket.

    Attributes:
        center, unit: a constant inside the numbers, and a power of two about as large as their spread.
        low: number of the first bucket in ``counts``; bucket 0 holds the centre, negative ones what lies below.
        counts: int64.
    """

    kind: ClassVar[str] = "quantiles"

    center: float = 0.0
    unit: float = 1.0
    low: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def of(cls, values: NDArray[np.float64], center: float = 0.0, unit: float = 1.0) -> Quantiles:
        """Return the counts of finite numbers."""
        if not len(values):
            return cls(center, unit)
        low, high = _buckets(np.array([values.min(), values.max()]), center, unit).tolist()
        counts = np.zeros(high - low + 1, dtype=np.int64)
        for start in range(0, len(values), CHUNK):
            bucket = _buckets(values[start : start + CHUNK], center, unit)
            bucket -= low
            counts += np.bincount(bucket, minlength=len(counts))
        return cls(center, unit, low, counts)

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return int(self.counts.sum())

    def merged(self, other: Quantiles) -> Quantiles:
        """Return the counts of both sets of numbers together. Raises ``SchemaError`` for other buckets."""
        if (self.center, self.unit) != (other.center, other.unit):
            raise SchemaError(
                f"quantiles around {self.center!r} and around {other.center!r} cannot be merged: fit with one schema."
            )
        if not len(self.counts) or not len(other.counts):
            return self if len(self.counts) else other
        low = min(self.low, other.low)
        counts = np.zeros(max(each.low + len(each.counts) for each in (self, other)) - low, dtype=np.int64)
        for each in (self, other):
            counts[each.low - low : each.low - low + len(each.counts)] += each.counts
        return Quantiles(self.center, self.unit, low, counts)

    def at(self, shares: Sequence[float], minimum: float = -math.inf, maximum: float = math.inf) -> NDArray[np.float64]:
        """Return the values below which the given shares of the numbers lie, each within ``minimum`` and ``maximum``.

        Raises:
            SchemaError: there are no numbers.
        """
        if not self.count:
            raise SchemaError("there are no numbers to take quantiles of.")
        ends = np.cumsum(self.counts)
        ranks = np.asarray(shares, dtype=np.float64) * (ends[-1] - 1)
        place = np.searchsorted(ends, ranks, side="right")
        inside = np.minimum((ranks - (ends[place] - self.counts[place]) + 0.5) / self.counts[place], 1.0)
        below, above = self._edges(place + self.low)
        found: NDArray[np.float64] = np.clip(self.center + below + inside * (above - below), minimum, maximum)
        return found

    def bins(self, number: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return inner borders of about equally full bins, ascending, and the exact share of the numbers in each bin.

        There are at most ``number - 1`` borders and one share more; a number on a border belongs to the bin above.
        """
        if not self.count:
            return (), (1.0,)
        ends = np.cumsum(self.counts)
        wanted = np.arange(1, number) / number * ends[-1]
        place = np.unique(np.searchsorted(ends, wanted))
        place = place[ends[place] < ends[-1]]
        _, above = self._edges(place + self.low)
        # A bucket below the centre holds its upper border, so the bin above begins just beyond it.
        # The next number after the sum: one next to a summand would be lost where the centre is larger.
        borders = self.center + above
        borders = np.where(place + self.low < 0, np.nextafter(borders, np.inf), borders)
        shares = np.diff([0, *ends[place].tolist(), int(ends[-1])]) / ends[-1]
        return tuple(borders.tolist()), tuple(shares.tolist())

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values: the buckets that are not empty."""
        filled = np.flatnonzero(self.counts)
        return {
            "kind": self.kind,
            "center": self.center,
            "unit": self.unit,
            "buckets": (filled + self.low).tolist(),
            "counts": self.counts[filled].tolist(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Quantiles:
        """Return the counts of ``to_json``'s values."""
        buckets = raw["buckets"]
        if not buckets:
            return cls(raw["center"], raw["unit"])
        counts = np.zeros(buckets[-1] - buckets[0] + 1, dtype=np.int64)
        counts[np.asarray(buckets) - buckets[0]] = raw["counts"]
        return cls(raw["center"], raw["unit"], buckets[0], counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantiles) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def _edges(self, bucket: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        floor, size = floor_of(self.unit), np.abs(bucket)
        near = ((size + floor) << SHIFT).view(np.float64)
        far = ((size + floor + 1) << SHIFT).view(np.float64)
        near = np.where(size == 0, 0.0, near)
        below = np.where(bucket < 0, -far, np.where(bucket == 0, -far, near))
        return below, np.where(bucket < 0, -near, far)


def grid_of(minimum: float | None, maximum: float | None, center: float | None) -> tuple[float, float]:
    """Return ``center`` and ``unit`` for numbers that were seen before: their median, and a power of two."""
    middle = 0.0 if center is None else center
    if minimum is None or maximum is None:
        return middle, 1.0
    spread = max(abs(maximum - middle), abs(minimum - middle))
    return middle, math.ldexp(1.0, max(math.frexp(spread)[1], -900)) if spread else 1.0


def _buckets(values: NDArray[np.float64], center: float, unit: float) -> NDArray[np.int64]:
    bits = (values - center).view(np.int64)
    bucket = bits & MAGNITUDE
    bucket >>= SHIFT
    bucket -= floor_of(unit)
    np.maximum(bucket, 0, out=bucket)
    # Two's complement turns the sign where the distance is negative.
    bits >>= 63
    bucket ^= bits
    bucket -= bits
    return bucket


def floor_of(unit: float) -> int:
    """Return the number, in all the buckets of a double, of the one that holds the centre."""
    return int(np.float64(unit * FINEST).view(np.int64)) >> SHIFT
