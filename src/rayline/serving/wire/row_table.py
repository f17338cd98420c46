"""Rows of requests as typed Arrow columns: the values as the version read them, whatever JSON spelled them like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import astuple

from rayline.features.reading import arrow_values, canonical
from rayline.features.schemas.schema import ColumnSchema
from rayline.serving.versions.batching import Rows
from rayline.serving.wire.decoding import TypedRows

if TYPE_CHECKING:
    import pyarrow as pa


def arrow_type(kind: str) -> pa.DataType:
    """Return what a column of a kind is kept as.

    A number is float64, a level its canonical text, an instant timestamp[us] in UTC without a zone, a vector or an
    image its float32 numbers in C order.
    """
    import pyarrow as pa

    types = {
        "numeric": pa.float64(),
        "categorical": pa.string(),
        "boolean": pa.bool_(),
        "datetime": pa.timestamp("us"),
        "text": pa.string(),
        "vector": pa.list_(pa.float32()),
        "image": pa.list_(pa.float32()),
    }
    return types[kind]


def row_table(requests: Sequence[Rows], columns: Sequence[ColumnSchema]) -> pa.Table:
    """Return the rows of requests that a version has answered, in their order, as a table.

    Args:
        requests: the rows of each, with a value for every column; other keys are ignored.
        columns: what the table gets, in order.

    Raises:
        KeyError: a row lacks a column.
        ValueError, TypeError, pyarrow.ArrowInvalid: a value is not of its column's kind.
    """
    import pyarrow as pa

    names = [column.name for column in columns]
    if not names:
        return pa.table({})
    arrays = [_array(values, column.kind) for values, column in zip(_gathered(requests, names), columns, strict=True)]
    return pa.Table.from_arrays(arrays, names=names)


def _gathered(requests: Sequence[Rows], names: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """Return the values of each column."""
    first = requests[0]
    if isinstance(first, TypedRows):
        known = first.decoder.names
        typed = [rows.records for rows in requests if isinstance(rows, TypedRows) and rows.decoder is first.decoder]
        if len(typed) == len(requests) and list(known) == list(names):
            return islice(zip(*map(astuple, chain.from_iterable(typed)), strict=True), len(known))
    pick = itemgetter(*names)
    rows = chain.from_iterable(requests)
    return zip(*map(pick, rows), strict=True) if len(names) > 1 else [tuple(map(pick, rows))]


def _array(values: Sequence[Any], kind: str) -> pa.Array:
    import pyarrow as pa

    try:
        return _AT_ONCE[kind](values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.array([_ONE[kind](value) for value in values], arrow_type(kind))


def _numbers(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.float64(), from_pandas=True)  # NaN is missing


def _levels(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    if bool in kinds and len(kinds) > 1:  # Arrow would make numbers of them all, and true is no 1 as a level
        return pa.array(list(map(canonical.level_text, values)), pa.string())
    found = arrow_values.levels(pa.array(values))
    codes = pa.array(found.codes.astype(np.int32), mask=found.missing | found.wrong)
    return pa.DictionaryArray.from_arrays(codes, pa.array(found.texts, pa.string())).cast(pa.string())


def _truths(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.bool_())


def _instants(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    found = arrow_values.instants(pa.array(values, pa.string()))
    return pa.array(found.data, pa.int64(), mask=found.missing).cast(pa.timestamp("us"))


def _texts(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.string())


def _lists(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.list_(pa.float32()))


def _one_array(value: Any) -> Any:
    if value is None or (isinstance(value, float) and value != value):
        return None
    return np.asarray(value, dtype=np.float32).reshape(-1)


_AT_ONCE: dict[str, Callable[[Sequence[Any]], Any]] = {
    "numeric": _numbers,
    "categorical": _levels,
    "boolean": _truths,
    "datetime": _instants,
    "text": _texts,
    "vector": _lists,
    "image": _lists,
}

_ONE: dict[str, Callable[[Any], Any]] = {
    "numeric": canonical.number,
    "categorical": canonical.level_text,
    "boolean": canonical.truth,
    "datetime": canonical.instant,
    "text": canonical.plain_text,
    "vector": _one_array,
    "image": _one_array,
}
