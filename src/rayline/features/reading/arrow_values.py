"""Read an Arrow column of any physical type as values of one kind, in one vectorised pass.

Nothing here raises for a bad value: each reader says which rows are missing and which are wrong, so that validation can
count them and the transform can name the first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import RowError
from rayline.features.reading import canonical
from rayline.features.reading.tensor_values import arrays
from rayline.features.reading.values import Values as Values

if TYPE_CHECKING:
    import pyarrow as pa

LIMIT = 1e100  # a larger number is a mistake in the data, and its square leaves the range of a double

NUMERIC_LOOK = r"\A([-+.0-9]|\z)"  # of a text that may be a number, or is empty

RULES = {
    "numeric": "is not a finite number",
    "categorical": "is not a text, a finite number or a boolean",
    "boolean": "is not true, false, 0 or 1",
    "datetime": "is not an ISO 8601 date or time, such as 2012-07-31 or 2012-07-31T18:00",
    "text": "is not a text",
    "vector": "is not an array of finite numbers, as many as in the other rows",
    "image": "is not an array of finite numbers, of the same height by width by channels as in the other rows",
}


def checked(read: Callable[[Any], Values], array: Any, name: str, rule: str) -> Values:
    """Return the column's values. Raises ``RowError`` for the first value that is not of the kind."""
    values = read(array)
    refuse_wrong(values, array, name, rule)
    return values


def refuse_wrong(values: Values, array: Any, name: str, rule: str) -> None:
    """Raise ``RowError`` for the first value of a column that is not of the kind."""
    if values.wrong.any():
        row = int(np.argmax(values.wrong))
        raise RowError(row, name, array[row].as_py(), rule)


def numbers(array: pa.ChunkedArray | pa.Array) -> Values:
    """Read float64 numbers. NaN is missing; an infinite number and text that is no number are wrong."""
    import pyarrow as pa

    array = _flat(array)
    kind = array.type
    if pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif _is_text(kind):
        return _by_distinct(array, pa.float64(), canonical_number, np.float64)
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return _all_wrong(array, np.float64)
    array = array.cast(pa.float64(), safe=False)
    if not len(array):
        return Values(np.zeros(0), np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.bool_))
    data = np.frombuffer(array.buffers()[1], dtype=np.float64, count=len(array), offset=8 * array.offset)
    missing = _nulls(array)
    # One look at the extremes tells for most columns that no value present is NaN or too large.
    if data.min() > -LIMIT and data.max() < LIMIT:
        return Values(data, missing, np.broadcast_to(np.False_, len(data)))
    missing = missing | np.isnan(data)
    return Values(data, missing, ~missing & (np.abs(data) >= LIMIT))


def levels(array: pa.ChunkedArray | pa.Array) -> Values:
    """Read levels: codes into the canonical texts of the distinct values."""
    import pyarrow as pa

    array = _flat(array)
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us", array.type.tz), safe=False)  # Python's datetimes have no nanoseconds
    if pa.types.is_null(array.type) or pa.types.is_nested(array.type) or pa.types.is_binary(array.type):
        nothing = _all_wrong(array, np.int64)
        return Values(np.where(nothing.missing, -1, -2), nothing.missing, nothing.wrong)
    coded = array.dictionary_encode()
    indices = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    if _all_canonical(coded.dictionary):
        return Values(indices, indices == -1, np.zeros(len(indices), np.bool_), tuple(coded.dictionary.to_pylist()))
    known: dict[str, int] = {}
    lookup = np.full(len(coded.dictionary) + 1, -1, dtype=np.int32)
    for position, value in enumerate(_distinct(coded.dictionary)):
        try:
            text = canonical.level_text(value)
        except ValueError:
            lookup[position] = -2
            continue
        if text is not None:
            lookup[position] = known.setdefault(text, len(known))
    # The last place of the lookup is for the index -1; most columns are canonical already and need none.
    codes = indices if np.array_equal(lookup[:-1], np.arange(len(lookup) - 1)) else lookup[indices]
    return Values(codes, codes == -1, codes == -2, tuple(known))


def _all_canonical(dictionary: Any) -> bool:
    """Tell whether ``canonical.level_text`` leaves every level alone: no text is empty or looks like a number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(dictionary.type) or pa.types.is_large_string(dictionary.type)):
        return False
    return not pc.any(pc.match_substring_regex(dictionary, NUMERIC_LOOK)).as_py()


def truths(array: pa.ChunkedArray | pa.Array) -> Values:
    """Read booleans as float64 0 and 1."""
    import pyarrow as pa

    array = _flat(array)
    if _is_text(array.type):
        return _by_distinct(array, None, lambda value: _or_none(canonical.truth(value)), np.float64)
    if pa.types.is_boolean(array.type) or pa.types.is_null(array.type) or pa.types.is_primitive(array.type):
        values = numbers(array)
        wrong = ~values.missing & ~((values.data == 0) | (values.data == 1))
        return Values(values.data, values.missing, wrong)
    return _all_wrong(array, np.float64)


def instants(array: pa.ChunkedArray | pa.Array) -> Values:
    """Read instants as int64 microseconds since 1970-01-01 UTC."""
    import pyarrow as pa

    array = _flat(array)
    if _is_text(array.type):
        return _by_distinct(array, pa.timestamp("us"), canonical.instant, np.int64)
    if not (pa.types.is_timestamp(array.type) or pa.types.is_date(array.type)):
        return _all_wrong(array, np.int64)
    missing = array.is_null().to_numpy(zero_copy_only=False)
    zone = getattr(array.type, "tz", None)
    array = array.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
    return Values(array.fill_null(0).to_numpy(zero_copy_only=False), missing, np.zeros(len(array), dtype=np.bool_))


def plain_texts(array: pa.ChunkedArray | pa.Array) -> Values:
    """Read texts as they stand: codes into the distinct ones. An empty text is missing."""
    import pyarrow as pa

    array = _flat(array)
    if pa.types.is_null(array.type) or not _is_text(array.type):
        nothing = _all_wrong(array, np.int64)
        return Values(np.where(nothing.missing, -1, -2), nothing.missing, nothing.wrong)
    coded = array.dictionary_encode()
    texts = coded.dictionary.to_pylist()
    codes = coded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    if "" in texts:
        empty = texts.index("")
        codes = np.where(codes == empty, -1, codes - (codes > empty))
        texts.pop(empty)
    return Values(codes, codes == -1, np.zeros(len(codes), dtype=np.bool_), tuple(texts))


READERS: dict[str, Callable[[Any], Values]] = {
    "numeric": numbers,
    "categorical": levels,
    "boolean": truths,
    "datetime": instants,
    "text": plain_texts,
    "vector": arrays,
    "image": arrays,
}


def reader(kind: str, shape: tuple[int, ...] | None = None) -> Callable[[Any], Values]:
    """Return the reader of a kind; ``shape`` is what each row of a vector or image column must have."""
    return partial(arrays, shape=shape) if shape is not None else READERS[kind]


def rule(kind: str, shape: tuple[int, ...] | None = None) -> str:
    """Return what a kind's values must be, as a message about a wrong one says it."""
    if shape is None:
        return RULES[kind]
    return f"is not an array of {' by '.join(map(str, shape))} finite numbers"


def canonical_number(value: object) -> float | None:
    """Return the number that a text stands for, None for an empty one. Raises ``ValueError`` for any other text."""
    text = str(value).strip()
    return float(text) if text else None


def _or_none(value: bool | None) -> float | None:
    return None if value is None else float(value)


def _flat(array: Any) -> Any:
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array


def _nulls(array: Any) -> NDArray[np.bool_]:
    """Return which rows of an array are null, from its validity bitmap."""
    if not array.null_count:
        return np.zeros(len(array), dtype=np.bool_)
    first = array.offset // 8
    bitmap = np.frombuffer(array.buffers()[0], dtype=np.uint8, offset=first)
    bits = np.unpackbits(bitmap, count=array.offset - 8 * first + len(array), bitorder="little")
    nulls: NDArray[np.bool_] = bits[array.offset - 8 * first :] == 0
    return nulls


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _distinct(dictionary: Any) -> list[Any]:
    """Return Python values; float32 by its shortest text, since 0.1 in 32 bits must stay 0.1."""
    import pyarrow as pa

    if pa.types.is_float32(dictionary.type) or pa.types.is_float16(dictionary.type):
        return [float(str(value)) for value in dictionary.to_numpy(zero_copy_only=False)]
    values: list[Any] = dictionary.to_pylist()
    return values


def _by_distinct(array: Any, kind: Any, read: Callable[[object], float | int | None], dtype: Any) -> Values:
    """Read a text column by its distinct values: by one Arrow cast where that takes them all, else one by one."""
    coded = array.dictionary_encode()
    data, state = _cast_distinct(coded.dictionary, kind) or _read_distinct(coded.dictionary.to_pylist(), read, dtype)
    null = coded.indices.is_null().to_numpy(zero_copy_only=False)
    indices = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    return Values(data[indices], null | (state[indices] == _MISSING), ~null & (state[indices] == _WRONG))


_MISSING, _WRONG = 1, 2
PROBE = 100  # a cast that fails is slow, so it is tried on a few values first


def _cast_distinct(dictionary: Any, kind: Any) -> tuple[NDArray[Any], NDArray[np.int8]] | None:
    import pyarrow as pa

    if kind is None or not len(dictionary):
        return None
    try:
        dictionary.slice(0, PROBE).cast(kind)
        cast = dictionary.cast(kind)
    except pa.ArrowInvalid:
        return None
    data = cast.cast(pa.int64()).to_numpy() if pa.types.is_timestamp(kind) else cast.to_numpy()
    state = np.where(np.isnan(data), _MISSING, np.where(np.abs(data) < LIMIT, 0, _WRONG))
    return data, state.astype(np.int8)


def _read_distinct(
    values: list[Any], read: Callable[[object], float | int | None], dtype: Any
) -> tuple[NDArray[Any], NDArray[np.int8]]:
    data = np.zeros(max(len(values), 1), dtype=dtype)
    state = np.zeros(len(data), dtype=np.int8)
    for position, value in enumerate(values):
        try:
            found = read(value)
        except (ValueError, OverflowError):
            state[position] = _WRONG
            continue
        if found is None or found != found:
            state[position] = _MISSING
        elif abs(found) >= LIMIT:
            state[position] = _WRONG
        else:
            data[position] = found
    return data, state


def _all_wrong(array: Any, dtype: Any) -> Values:
    """Every value present is of a type that cannot be read; a column of nulls alone is merely missing."""
    missing = array.is_null().to_numpy(zero_copy_only=False)
    return Values(np.zeros(len(array), dtype=dtype), missing, ~missing)
