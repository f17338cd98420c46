"""What a fit knows about some rows, and how two such states become one.

Merging is exact (fractions and counts), so the state of a table is the same value however its rows were ordered or cut
into blocks. One class serves every kind of column: numbers have moments, levels have counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import DataError, SchemaError
from rayline.features.exact import exact_moments

FORMAT = 1
MOST_LEVELS = 100_000  # distinct values of one column that a fit counts


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, exact sum and sum of squares, and bounds of some finite numbers."""

    count: int = 0
    total: Fraction = Fraction(0)
    squares: Fraction = Fraction(0)
    minimum: float = math.inf
    maximum: float = -math.inf

    @classmethod
    def of(cls, values: NDArray[Any]) -> Moments:
        """Return the moments of numbers, each up to 1e100 in size."""
        if not len(values):
            return cls()
        doubles = np.ascontiguousarray(values, dtype=np.float64)
        return cls(len(doubles), *exact_moments(doubles), float(doubles.min()), float(doubles.max()))

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of numbers together."""
        return Moments(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
        )

    @property
    def mean(self) -> float:
        """The mean; 0 where there are no numbers."""
        return float(self.total / self.count) if self.count else 0.0

    @property
    def std(self) -> float:
        """The population standard deviation; 0 where there are no numbers."""
        if not self.count:
            return 0.0
        variance = self.squares / self.count - (self.total / self.count) * (self.total / self.count)
        return math.sqrt(max(float(variance), 0.0))

    @property
    def varies(self) -> bool:
        """Whether there are two different numbers."""
        return self.minimum < self.maximum

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, exact."""
        bounds = [self.minimum, self.maximum] if self.count else None
        return {"count": self.count, "total": str(self.total), "squares": str(self.squares), "bounds": bounds}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Moments:
        """Return the moments of ``to_json``'s values."""
        minimum, maximum = raw["bounds"] or (math.inf, -math.inf)
        return cls(raw["count"], Fraction(raw["total"]), Fraction(raw["squares"]), minimum, maximum)


@dataclass(frozen=True, slots=True)
class ColumnState:
    """What is known of one column: moments by part (``value``, or the parts of a date), counts of levels, gaps."""

    rows: int = 0
    missing: int = 0
    moments: Mapping[str, Moments] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def merged(self, other: ColumnState) -> ColumnState:
        """Return the state of both sets of rows together."""
        moments = dict(self.moments)
        for part, theirs in other.moments.items():
            moments[part] = moments[part].merged(theirs) if part in moments else theirs
        counts = dict(self.counts)
        for level, count in other.counts.items():
            counts[level] = counts.get(level, 0) + count
        return ColumnState(self.rows + other.rows, self.missing + other.missing, moments, counts)


@dataclass(frozen=True, slots=True)
class FitState:
    """What is known of every column, the target among them."""

    columns: Mapping[str, ColumnState] = field(default_factory=dict)

    def merged(self, other: FitState) -> FitState:
        """Return the state of both sets of rows together.

        Raises:
            DataError: a column has more distinct levels than a fit counts.
        """
        columns = dict(self.columns)
        for name, theirs in other.columns.items():
            columns[name] = columns[name].merged(theirs) if name in columns else theirs
            refuse_endless(name, columns[name].counts)
        return FitState(columns)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, exact."""
        return {
            "format": FORMAT,
            "columns": {
                name: {
                    "rows": state.rows,
                    "missing": state.missing,
                    "moments": {part: moments.to_json() for part, moments in state.moments.items()},
                    "counts": dict(state.counts),
                }
                for name, state in self.columns.items()
            },
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> FitState:
        """Return the state of ``to_json``'s values. Raises ``SchemaError`` for another format."""
        if raw.get("format") != FORMAT:
            raise SchemaError(f"fit state format {raw.get('format')!r} is unknown: this Rayline reads format {FORMAT}.")
        return cls(
            {
                name: ColumnState(
                    each["rows"],
                    each["missing"],
                    {part: Moments.from_json(moments) for part, moments in each["moments"].items()},
                    each["counts"],
                )
                for name, each in raw["columns"].items()
            }
        )


def merge_all(states: Iterable[FitState]) -> FitState:
    """Return the state of all rows together; the empty state where there are none."""
    result = FitState()
    for state in states:
        result = result.merged(state)
    return result


def refuse_endless(name: str, counts: Mapping[str, int]) -> None:
    """Raise ``DataError`` where a column has more distinct levels than a fit counts."""
    if len(counts) > MOST_LEVELS:
        raise DataError(
            f"column '{name}' has more than {MOST_LEVELS:,} different values, too many for a categorical column. "
            f"Leave it out (features.drop) or give it another kind (features.columns.{name})."
        )
