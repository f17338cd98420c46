"""Rows of a table as a client sends them in a request: what JSON has a form for, value by value."""

from __future__ import annotations

from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rayline.features.schemas.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa


def request_rows(table: pa.Table, schema: Schema, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return raw rows as JSON-ready mappings.

    A time becomes its ISO 8601 text, to the microsecond; NaN and null become None; a decimal becomes a number; a level
    that a source keeps in 32 bits becomes the shortest number that means it, as people write it; a vector or an image
    becomes a list of numbers.

    Args:
        table: raw rows.
        schema: says what kind each column is.
        columns: which columns a request holds.
    """
    values = [_values(table.column(name), schema.column(name).kind) for name in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _values(array: Any, kind: str) -> list[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_struct(array.type) and {"data", "shape"} <= {field.name for field in array.type}:
        array = pc.struct_field(array, "data")  # Ray Data's tensors of varying shape: a flat one is as good
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
    narrow = pa.types.is_float32(array.type) or pa.types.is_float16(array.type)
    if narrow and kind == "categorical":
        return [None if value is None else _plain(float(str(value))) for value in array.to_numpy(zero_copy_only=False)]
    return [_plain(value) for value in array.to_pylist()]


def _plain(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if value != value else value
