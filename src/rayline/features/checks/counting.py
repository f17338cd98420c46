"""Count what breaks a schema in some rows: the findings of one block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rayline.config import Environment
from rayline.errors import nearest
from rayline.features.checks.findings import EXAMPLES, WHOLE_ROWS, Findings, Place, Tally, example
from rayline.features.checks.rules import Break, Mask, column_breaks, target_breaks
from rayline.features.checks.twins import Twins, Words
from rayline.features.hashing import row_hashes
from rayline.features.reading.arrow_values import READERS
from rayline.features.reading.batch import Batch
from rayline.features.schemas.schema import ColumnSchema, Schema
from rayline.features.splits.split import MARKS, without_marks

if TYPE_CHECKING:
    import pyarrow as pa


def broken_rows(
    batch: Batch, schema: Schema, environment: Environment
) -> tuple[Mapping[str, list[Break]], tuple[ColumnSchema, ...]]:
    """Return, by column, the rules that some rows break, and the required columns that the table lacks."""
    breaks: dict[str, list[Break]] = {}
    absent: list[ColumnSchema] = []
    names = set(batch.table.column_names)
    for column in schema.found_in(environment):
        if column.name not in names:
            if column.required:
                absent.append(column)
            continue
        if column.kind not in READERS:
            continue
        values = batch.raw(column.name, column.kind)
        is_target = column.name == schema.target
        array = batch.table.column(column.name)
        found = list(target_breaks(values, schema) if is_target else column_breaks(array, values, column))
        if found:
            breaks[column.name] = found
    return breaks, tuple(absent)


def counted(
    batch: Batch,
    schema: Schema,
    breaks: Mapping[str, list[Break]],
    absent: tuple[ColumnSchema, ...],
    hashes: Words | None,
    environment: Environment,
) -> Findings:
    """Return the findings of some rows, given what ``broken_rows`` says of them and the rows' hashes where known."""
    table = batch.table
    tallies: dict[Place, Tally] = {}
    for column in absent:
        spare = [name for name in table.column_names if name not in (*schema.names, schema.target, *MARKS)]
        near = nearest(column.name, spare) or (spare[0] if len(spare) == len(absent) == 1 else None)
        hint = f": is it '{near}' now?" if near else ""
        tallies[column.name, "presence", f"column is missing{hint}"] = Tally(len(batch))
    for name, found in breaks.items():
        for each in found:
            tallies[name, each.rule, each.message] = _tally(table.column(name), each.rows)
    tallies |= _gaps(batch, schema, environment)
    return Findings(len(batch), tallies, _twins(batch, schema, hashes, environment))


def _tally(array: Any, rows: Mask) -> Tally:
    first = (int(row) for row in np.flatnonzero(rows)[:EXAMPLES])
    return Tally(int(np.count_nonzero(rows)), tuple(example(row, array[row].as_py()) for row in first))


def _gaps(batch: Batch, schema: Schema, environment: Environment) -> dict[Place, Tally]:
    """Count the gaps of columns whose share of them is limited: the whole table tells whether the limit is passed."""
    found: dict[Place, Tally] = {}
    for column in schema.found_in(environment):
        limit = most_missing(column, schema)
        if limit is None or column.name not in batch.table.column_names or column.kind not in READERS:
            continue
        values = batch.raw(column.name, column.kind)
        if values.gaps:
            message = f"has no value, where at most {limit:.1%} of the rows may"
            found[column.name, "max_missing", message] = _tally(batch.table.column(column.name), values.missing)
    return found


def most_missing(column: ColumnSchema, schema: Schema) -> float | None:
    """Return the share of rows that may have no value in a column, or None where nothing limits it."""
    if column.name == schema.target:  # a missing answer is a rule of its own
        return None
    return schema.max_missing if column.max_missing is None else column.max_missing


def _twins(batch: Batch, schema: Schema, hashes: Words | None, environment: Environment) -> dict[str, Twins]:
    found: dict[str, Twins] = {}
    for column in schema.found_in(environment):
        if column.unique and column.name in batch.table.column_names and column.kind in READERS:
            rows = np.flatnonzero(~batch.raw(column.name, column.kind).missing).astype(np.int64)
            found[column.name] = Twins.of(row_hashes(batch.table, (column.name,))[rows], rows)
    if schema.max_duplicates is not None:
        whole = hashes if hashes is not None else row_hashes(as_in_source(batch.table))
        found[WHOLE_ROWS] = Twins.of(whole)
    return found


def as_in_source(table: pa.Table) -> pa.Table:
    """Return the table without the marks of the split."""
    return table.select(list(without_marks(table.column_names)))
