"""How often each level occurs: exact up to a capacity, and the frequent ones beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rayline.features.sketches.seam import readable

CAPACITY = 100_000  # different levels that are counted exactly


@readable
@dataclass(frozen=True, slots=True)
class Levels:
    """Counts of levels.

    Up to ``CAPACITY`` different levels they are exact and free of order. Beyond it they are the mergeable summary of
    Misra and Gries (Agarwal et al. 2012): each count is at most ``error`` too low, a level that is not listed occurs at
    most ``error`` times, and ``error`` is at most ``rows / CAPACITY``. Which rare levels are listed may then depend on
    the order of merging.

    Attributes:
        counts: rows by level.
        rows: all rows with a level, listed or not.
        error: how much too low a count may be; 0 while exact.
    """

    kind: ClassVar[str] = "levels"

    counts: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    error: int = 0

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Levels:
        """Return the sketch of counted levels."""
        return _bounded(dict(counts), sum(counts.values()), 0)

    @property
    def exact(self) -> bool:
        """Whether every level is listed with its own count."""
        return not self.error

    def merged(self, other: Levels) -> Levels:
        """Return the counts of both sets of rows together."""
        large, small = (self, other) if len(self.counts) >= len(other.counts) else (other, self)
        counts = dict(large.counts)
        for level, count in small.counts.items():
            counts[level] = counts.get(level, 0) + count
        return _bounded(counts, self.rows + other.rows, self.error + other.error)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        counts = dict(sorted(self.counts.items()))
        return {"kind": self.kind, "counts": counts, "rows": self.rows, "error": self.error}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Levels:
        """Return the counts of ``to_json``'s values."""
        return cls(raw["counts"], raw["rows"], raw["error"])


def _bounded(counts: dict[str, int], rows: int, error: int) -> Levels:
    if len(counts) <= CAPACITY:
        return Levels(counts, rows, error)
    cut = sorted(counts.values(), reverse=True)[CAPACITY]
    return Levels({level: count - cut for level, count in counts.items() if count > cut}, rows, error + cut)
