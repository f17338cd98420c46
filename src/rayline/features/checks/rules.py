"""The rules of one column, row by row: which rows break each, in one vectorised pass over values that were read once.

What is sound costs a comparison; masks are combined only where something broke.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.features.reading import canonical
from rayline.features.reading.arrow_values import RULES, Values
from rayline.features.schemas.schema import ColumnSchema, Schema

if TYPE_CHECKING:
    import pyarrow as pa

Mask = NDArray[np.bool_]

MOST_SHOWN = 10  # levels in a message

ROW_RULES = ("type", "shape", "target", "negative", "domain", "range", "integer", "missing")
TABLE_RULES = ("presence", "max_missing", "unique", "duplicates", "rows")


@dataclass(frozen=True, slots=True)
class Break:
    """The rows (a mask) that break a rule."""

    rule: str
    message: str
    rows: Mask


def column_breaks(array: pa.ChunkedArray, values: Values, column: ColumnSchema) -> Iterator[Break]:
    """Yield what some rows of an input column break; nothing where all is sound."""
    if values.wrong.any():
        if column.shape is None:
            yield Break("type", RULES[column.kind], values.wrong)
        else:  # the reader was told the shape
            shape = " by ".join(map(str, column.shape))
            yield Break("shape", f"is not an array of {shape} finite numbers", values.wrong)
    if not column.nullable and values.gaps:
        yield Break("missing", "has no value, where the schema has always seen one", values.missing)
    if column.levels is not None:
        yield from _not_listed(values, column.levels)
    if column.minimum is not None or column.maximum is not None:
        yield from _outside(values, column)
    if column.integer and column.kind == "numeric":
        yield from _fractions(array, values)


def target_breaks(values: Values, schema: Schema) -> Iterator[Break]:
    """Yield what some rows of the target break."""
    if values.gaps:
        yield Break("target", "has no value in the target", values.missing)
    if schema.task != "regression":
        strangers = values.wrong | strange(values, schema.classes)
        if strangers.any():
            yield Break("target", f"is not one of the classes {_listed(schema.classes)}", strangers)
        return
    if values.wrong.any():
        yield Break("target", RULES["numeric"], values.wrong)
    if schema.answer is not None:
        yield from _outside(values, schema.answer)
        if schema.answer.integer:
            yield from _fractions(None, values)


def strange(values: Values, known: tuple[str, ...] | frozenset[str]) -> Mask:
    """Return the rows whose level is not among the known ones."""
    listed = frozenset(known)
    lookup = np.array([*(text not in listed for text in values.texts), False], dtype=np.bool_)
    found: Mask = lookup[np.maximum(values.codes, -1)]
    return found


def bound_text(column: ColumnSchema, bound: float) -> str:
    """Return a bound as a person writes it: a number, or an ISO date or time."""
    if column.kind != "datetime":
        return f"{bound:.10g}"
    moment = canonical.EPOCH + timedelta(microseconds=bound)
    return moment.date().isoformat() if moment.time() == canonical.EPOCH.time() else moment.isoformat()


def _not_listed(values: Values, levels: tuple[str, ...]) -> Iterator[Break]:
    listed = frozenset(levels)
    if not listed.issuperset(values.texts):
        strangers = strange(values, listed)
        if strangers.any():
            yield Break("domain", f"is a level that the schema does not list: {_listed(levels)}", strangers)


def _outside(values: Values, column: ColumnSchema) -> Iterator[Break]:
    low = -math.inf if column.minimum is None else column.minimum
    high = math.inf if column.maximum is None else column.maximum
    outside = values.data < low
    outside |= values.data > high
    if not outside.any():
        return
    outside &= ~(values.missing | values.wrong)
    if column.integer and low >= 0:
        negative = outside & (values.data < 0)
        if negative.any():
            outside &= ~negative
            yield Break("negative", f"is negative, where the schema starts at {bound_text(column, low)}", negative)
    if outside.any():
        yield Break("range", f"is {_span(column)}", outside)


def _span(column: ColumnSchema) -> str:
    if column.minimum is None:
        return f"above {bound_text(column, column.maximum or 0.0)}"
    if column.maximum is None:
        return f"below {bound_text(column, column.minimum)}"
    return f"outside {bound_text(column, column.minimum)} to {bound_text(column, column.maximum)}"


def _fractions(array: Any, values: Values) -> Iterator[Break]:
    import pyarrow as pa

    if array is not None and pa.types.is_integer(array.type):
        return
    data = values.data
    parted = np.floor(data) != data
    if parted.any():
        parted &= ~(values.missing | values.wrong)
        if parted.any():
            yield Break("integer", "is not a whole number, where the schema has only seen such", parted)


def _listed(levels: tuple[str, ...]) -> str:
    more = f", … ({len(levels)} in all)" if len(levels) > MOST_SHOWN else ""
    return ", ".join(levels[:MOST_SHOWN]) + more
