"""Keys and times of feature tables, read the same way wherever they come from: a file, a worker or a request.

7, 7.0 and ``"7"`` are one key, since one side may be a CSV and the other JSON; ``"07"`` is another. An empty text is
no key. A time is a date, a time, an ISO 8601 text or a number of seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import DataError, RowError, shown, suggestion
from rayline.features.reading import arrow_values, canonical

if TYPE_CHECKING:
    import pyarrow as pa

MOST_SECONDS = 9e12  # in microseconds, more does not fit 64 bits

KEY_RULE = "is no key: keys are texts, whole numbers, booleans or dates"
TIME_RULE = "is no time: send a date, an ISO 8601 time or a number of seconds since 1970"


def key_text(value: object) -> str | None:
    """Return the canonical text of one part of a key, None where it is missing. Raises ``ValueError`` for no key."""
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        if value != value:
            return None
        if float(value).is_integer():
            return str(int(value))
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    raise ValueError(f"{shown(value)} {KEY_RULE}")


def moment(value: object) -> int | None:
    """Return one time in microseconds since 1970-01-01 UTC, None where it is missing. Raises ``ValueError``."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        seconds = float(value)
        if seconds != seconds:
            return None
        if abs(seconds) > MOST_SECONDS:
            raise ValueError(f"{shown(value)} {TIME_RULE}")
        return int(np.rint(seconds * 1e6))
    try:
        return canonical.instant(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{shown(value)} {TIME_RULE}") from error


def is_text(kind: pa.DataType) -> bool:
    """Tell whether keys of an Arrow type are compared as texts: all but numbers are."""
    import pyarrow as pa

    return not (pa.types.is_integer(kind) or pa.types.is_floating(kind))


def key_arrays(table: pa.Table, keys: Sequence[str], texts: Sequence[bool], what: str) -> list[pa.Array]:
    """Return the key columns in one form: int64, or string where ``texts`` says so; null where there is no key.

    Raises:
        DataError: a column is absent, or is none that keys can be made of.
    """
    for name in keys:
        if name not in table.column_names:
            raise DataError(f"{what} has no key column '{name}'. {suggestion(name, table.column_names)}")
    return [_key_array(table.column(name), name, text, what) for name, text in zip(keys, texts, strict=True)]


def key_codes(table: pa.Table, keys: Sequence[str], what: str) -> NDArray[np.int64]:
    """Return a number for each distinct key of a table, -1 where a part of it is missing. Raises ``DataError``."""
    texts = [name in table.column_names and is_text(table.schema.field(name).type) for name in keys]
    group: NDArray[np.int64] | None = None
    for array in key_arrays(table, keys, texts, what):
        encoded = array.dictionary_encode()
        code = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        if group is None:
            group = code
            continue
        missing = (group < 0) | (code < 0)
        _, group = np.unique(group * max(len(encoded.dictionary), 1) + code, return_inverse=True)
        group = np.where(missing, -1, group)
    assert group is not None
    return group


def time_array(table: pa.Table, name: str, what: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return a column as int64 microseconds since 1970-01-01 UTC, and which rows have a time.

    Raises:
        DataError: the column is absent.
        RowError: a value is no time.
    """
    import pyarrow as pa

    if name not in table.column_names:
        raise DataError(f"{what} has no time column '{name}'. {suggestion(name, table.column_names)}")
    array = table.column(name)
    kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = arrow_values.checked(arrow_values.numbers, array, name, TIME_RULE)
        far = ~values.missing & (np.abs(values.data) > MOST_SECONDS)
        if far.any():
            row = int(np.argmax(far))
            raise RowError(row, name, array[row].as_py(), TIME_RULE)
        return np.rint(np.where(values.missing, 0, values.data) * 1e6).astype(np.int64), ~values.missing
    values = arrow_values.checked(arrow_values.instants, array, name, TIME_RULE)
    return np.where(values.missing, 0, values.data).astype(np.int64), ~values.missing


def _key_array(array: Any, name: str, text: bool, what: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    plain = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not (numeric or plain or pa.types.is_boolean(kind) or pa.types.is_date(kind) or pa.types.is_null(kind)):
        raise DataError(f"{what}: column '{name}' holds {kind}, which {KEY_RULE}.")
    if pa.types.is_floating(kind):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, kind), array)
    try:
        array = array.cast(pa.int64()) if numeric else array
    except pa.ArrowInvalid as error:
        raise DataError(f"{what}: column '{name}' is no key, which must be a whole number: {error}.") from error
    if not text:
        return array
    array = array.cast(pa.large_string())
    return pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.large_string()), array)
