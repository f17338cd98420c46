"""What a schema must become for a table to fit it: levels, bounds, gaps and limits, from facts that merge over blocks.

A value that is not of its column's kind changes nothing: the data is wrong there, or the kind is, and a person decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from rayline.config import Environment
from rayline.features.checks.findings import WHOLE_ROWS, Findings
from rayline.features.checks.twins import Twins
from rayline.features.hashing import row_hashes
from rayline.features.reading.arrow_values import READERS, Values
from rayline.features.reading.batch import Batch
from rayline.features.reading.canonical import level_order
from rayline.features.schemas.schema import ColumnSchema, Schema

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LISTED = 1_000  # levels that a schema lists
ROOM = 0.05  # above twice the share that was seen


@dataclass(frozen=True, slots=True)
class Seen:
    """What some rows of a column hold, in the kind of its schema; ``whole``: every number is."""

    missing: int = 0
    levels: frozenset[str] = frozenset()
    minimum: float = math.inf
    maximum: float = -math.inf
    whole: bool = True

    def merged(self, other: Seen) -> Seen:
        """Return what both sets of rows hold; levels beyond what a schema lists are let go of."""
        levels = self.levels | other.levels
        if len(levels) > MOST_LISTED:
            levels = frozenset(sorted(levels)[: MOST_LISTED + 1])
        return Seen(
            self.missing + other.missing,
            levels,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.whole and other.whole,
        )


@dataclass(frozen=True, slots=True)
class TableSeen:
    """What some rows hold, by column; a column that the table lacks has no entry."""

    columns: Mapping[str, Seen] = field(default_factory=dict)

    def merged(self, other: TableSeen) -> TableSeen:
        """Return what both sets of rows hold."""
        columns = dict(self.columns)
        for name, theirs in other.columns.items():
            columns[name] = columns[name].merged(theirs) if name in columns else theirs
        return TableSeen(columns)


def seen_in(rows: Batch | pa.Table, schema: Schema) -> TableSeen:
    """Return what some rows hold of the schema's columns and target."""
    batch = rows if isinstance(rows, Batch) else Batch(rows, schema)
    columns = (*schema.columns, schema.target_column)
    return TableSeen(
        {
            each.name: _seen(batch.raw(each.name, each.kind), each)
            for each in columns
            if each.kind in READERS and each.name in batch.table.column_names
        }
    )


def proposed(schema: Schema, seen: TableSeen, findings: Findings, environment: Environment = "TRAINING") -> Schema:
    """Return the schema that a table would fit, kinds aside: wider, never narrower.

    Args:
        schema: as it is.
        seen: what the table holds.
        findings: what of it breaks the schema.
        environment: where the table is from; columns that are not found there are left as they are.
    """
    found = {each.name for each in schema.found_in(environment)}

    def widened(column: ColumnSchema) -> ColumnSchema:
        if column.name not in found:
            return column
        if column.name not in seen.columns:
            return replace(column, required=False)
        return _widened(column, seen.columns[column.name], findings, schema)

    answer = widened(schema.target_column) if schema.target in seen.columns else schema.target_column
    classes = answer.levels or () if schema.task == "multiclass" else schema.classes
    changed = replace(schema, columns=tuple(widened(each) for each in schema.columns), classes=classes, answer=None)
    if schema.task == "regression" and schema.answer is not None:
        changed = replace(changed, answer=replace(answer, nullable=schema.answer.nullable, max_missing=None))
    return _with_limits_for(changed, findings)


def with_limits(schema: Schema, table: pa.Table) -> Schema:
    """Return a schema with the limits that a person may then edit: what its table shows, doubled, and a little room."""
    seen, rows = seen_in(table, schema), max(table.num_rows, 1)
    copies, _ = Twins.of(row_hashes(table)).copies()

    def limited(column: ColumnSchema) -> ColumnSchema:
        gaps = seen.columns[column.name].missing if column.name in seen.columns else 0
        return replace(column, max_missing=roomy(gaps / rows)) if gaps else column

    return replace(
        schema,
        columns=tuple(limited(each) for each in schema.columns),
        max_missing=ROOM,
        max_duplicates=roomy(copies / rows, 0.01),
    )


def roomy(share: float, room: float = ROOM) -> float:
    """Return a limit for a share that was seen: its double and some room, rounded up to whole per cent."""
    return min(math.ceil(round((2 * share + room) * 100, 6)) / 100, 1.0)


def merge_seen(parts: Iterable[TableSeen]) -> TableSeen:
    """Return what all rows hold."""
    result = TableSeen()
    for each in parts:
        result = result.merged(each)
    return result


def _seen(values: Values, column: ColumnSchema) -> Seen:
    sound = ~(values.missing | values.wrong)
    missing = int(np.count_nonzero(values.missing))
    if column.kind == "categorical":
        places = np.unique(values.codes[sound])[: MOST_LISTED + 1]
        return Seen(missing, frozenset(values.texts[int(place)] for place in places))
    present = values.data if sound.all() else values.data[sound]
    if column.kind not in ("numeric", "datetime") or not len(present):
        return Seen(missing)
    whole = bool((np.floor(present) == present).all()) if column.integer else True
    return Seen(missing, frozenset(), float(present.min()), float(present.max()), whole)


def _widened(column: ColumnSchema, seen: Seen, findings: Findings, schema: Schema) -> ColumnSchema:
    changes: dict[str, object] = {}
    if seen.missing and not column.nullable:
        changes["nullable"] = True
    share = seen.missing / max(findings.rows, 1)
    limit = schema.max_missing if column.max_missing is None else column.max_missing
    if limit is not None and share > limit:
        changes["max_missing"] = roomy(share)
    if column.levels is not None and not seen.levels <= set(column.levels):
        levels = seen.levels | set(column.levels)
        changes["levels"] = tuple(sorted(levels, key=level_order)) if len(levels) <= MOST_LISTED else None
    if column.minimum is not None and seen.minimum < column.minimum:
        changes["minimum"] = seen.minimum
    if column.maximum is not None and seen.maximum > column.maximum:
        changes["maximum"] = seen.maximum
    if column.integer and not seen.whole:
        changes["integer"] = False
    twins = findings.twins.get(column.name)
    if column.unique and twins is not None and twins.copies()[0]:
        changes["unique"] = False
    return replace(column, **changes) if changes else column  # type: ignore[arg-type]


def _with_limits_for(schema: Schema, findings: Findings) -> Schema:
    rows = max(findings.rows, 1)
    if WHOLE_ROWS in findings.twins and schema.max_duplicates is not None:
        share = findings.twins[WHOLE_ROWS].copies()[0] / rows
        if share > schema.max_duplicates:
            schema = replace(schema, max_duplicates=roomy(share, 0.01))
    return replace(schema, min_rows=min(schema.min_rows, findings.rows))
