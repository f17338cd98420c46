"""Columns whose values seem to be exchanged: each breaks its own schema or the other's does, and fits the other's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from rayline.features.checks.findings import Anomaly
from rayline.features.checks.rules import column_breaks
from rayline.features.reading.arrow_values import READERS
from rayline.features.schemas.schema import ColumnSchema, Schema

if TYPE_CHECKING:
    import pyarrow as pa

SUSPECT = 0.01  # share of rows from which a broken column may hold another's values
TELLING = ("type", "domain", "range", "negative", "integer")


def swaps(table: pa.Table, schema: Schema, anomalies: Iterable[Anomaly]) -> tuple[str, ...]:
    """Return a sentence for each pair of columns that would fit the schema if their values were exchanged.

    Args:
        table: raw rows, some of a large source.
        schema: what they must look like.
        anomalies: what of it they break.
    """
    broken = {each.column for each in anomalies if each.rule in TELLING and each.share >= SUSPECT}
    known = {each.name: each for each in schema.columns if each.name in table.column_names and each.kind in READERS}
    found: dict[frozenset[str], str] = {}
    for name in [each for each in known if each in broken]:
        fitting = [
            other
            for other in known
            if other != name and _fits(table, name, known[other]) and _fits(table, other, known[name])
        ]
        if len(fitting) == 1:
            pair = frozenset((name, fitting[0]))
            found.setdefault(
                pair,
                f"the values of '{name}' and '{fitting[0]}' seem to be exchanged: each column fits the other's schema",
            )
    return tuple(found.values())


def _fits(table: pa.Table, name: str, column: ColumnSchema) -> bool:
    array = table.column(name)
    values = READERS[column.kind](array)
    return not values.missing.all() and not any(column_breaks(array, values, replace(column, nullable=True)))
