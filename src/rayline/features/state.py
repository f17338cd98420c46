"""What a fit knows about some rows, and how two such states become one.

Every raw column is observed in the same way, whatever features look at it: its gaps, and by its kind the moments,
quantiles and distinct values of numbers or the counts of levels. What a feature's kind needs beyond it are its extras.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from rayline.errors import SchemaError
from rayline.features.sketches import Distinct, Levels, Moments, Quantiles, Sketch, restored

FORMAT = 2

Sketches = Mapping[str, Sketch]


@dataclass(frozen=True, slots=True)
class ColumnState:
    """What is known of one raw column, or of the target: rows, rows without a value, and sketches of the others."""

    rows: int = 0
    missing: int = 0
    sketches: Sketches = field(default_factory=dict)

    @property
    def moments(self) -> Moments:
        """Of what a column's values come to as one number, by its kind; of no numbers for a categorical one.

        Numbers and booleans (0 and 1) as they are, datetimes in microseconds since 1970, texts by their number of
        words, vectors and images by their Euclidean norm.
        """
        return cast(Moments, self.sketches.get("moments", Moments()))

    @property
    def quantiles(self) -> Quantiles:
        """Of a numeric or datetime column; else of no numbers."""
        return cast(Quantiles, self.sketches.get("quantiles", Quantiles()))

    @property
    def distinct(self) -> Distinct:
        """Of a numeric or datetime column; else of no values."""
        return cast(Distinct, self.sketches.get("distinct", Distinct()))

    @property
    def levels(self) -> Levels:
        """Of a categorical or text column; else none."""
        return cast(Levels, self.sketches.get("levels", Levels()))

    def merged(self, other: ColumnState) -> ColumnState:
        """Return the state of both sets of rows together."""
        sketches = merged_sketches(self.sketches, other.sketches)
        return ColumnState(self.rows + other.rows, self.missing + other.missing, sketches)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, exact."""
        return {"rows": self.rows, "missing": self.missing, "sketches": sketches_to_json(self.sketches)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ColumnState:
        """Return the state of ``to_json``'s values."""
        return cls(raw["rows"], raw["missing"], sketches_from_json(raw["sketches"]))


@dataclass(frozen=True, slots=True)
class FitState:
    """What is known of every raw column, the target among them, and the extras of every feature that has some."""

    columns: Mapping[str, ColumnState] = field(default_factory=dict)
    extras: Mapping[str, Sketches] = field(default_factory=dict)

    def merged(self, other: FitState) -> FitState:
        """Return the state of both sets of rows together."""
        columns = dict(self.columns)
        for name, theirs in other.columns.items():
            columns[name] = columns[name].merged(theirs) if name in columns else theirs
        extras = dict(self.extras)
        for name, others in other.extras.items():
            extras[name] = merged_sketches(extras[name], others) if name in extras else others
        return FitState(columns, extras)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, exact."""
        return {
            "format": FORMAT,
            "columns": {name: state.to_json() for name, state in self.columns.items()},
            "extras": {name: sketches_to_json(sketches) for name, sketches in self.extras.items()},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> FitState:
        """Return the state of ``to_json``'s values. Raises ``SchemaError`` for another format."""
        if raw.get("format") != FORMAT:
            raise SchemaError(f"fit state format {raw.get('format')!r} is unknown: this Rayline reads format {FORMAT}.")
        columns = {name: ColumnState.from_json(each) for name, each in raw["columns"].items()}
        return cls(columns, {name: sketches_from_json(each) for name, each in raw["extras"].items()})


def merge_all(states: Iterable[FitState]) -> FitState:
    """Return the state of all rows together; the empty state where there are none."""
    result = FitState()
    for state in states:
        result = result.merged(state)
    return result


def merged_sketches(ours: Sketches, theirs: Sketches) -> Sketches:
    """Return the sketches of both sets of rows together, by name."""
    sketches = dict(ours)
    for name, sketch in theirs.items():
        sketches[name] = sketches[name].merged(sketch) if name in sketches else sketch
    return sketches


def sketches_to_json(sketches: Sketches) -> dict[str, Any]:
    """Return JSON-ready values."""
    return {name: sketch.to_json() for name, sketch in sketches.items()}


def sketches_from_json(raw: Mapping[str, Any]) -> Sketches:
    """Return the sketches of ``sketches_to_json``'s values. Raises ``SchemaError`` for an unknown kind."""
    return {name: restored(each) for name, each in raw.items()}
