"""A stable 64-bit hash per row, over its content, in a few vectorised passes.

It depends on column names and values alone: the order of columns, physical number types, block borders and Python's
hash seed change nothing. Equal rows hash alike, so duplicates never lie on two sides of a split.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Words = NDArray[np.uint64]

NULL = np.uint64(0x9E3779B97F4A7C15)
CHUNK = 1 << 14  # rows at a time: every intermediate stays in the processor's cache, at a fifth of the time
PROBE = 1 << 11  # rows that tell whether texts repeat
LONG = 128  # bytes; a longer text is hashed by itself
EIGHT = np.uint64(8)


def row_hashes(table: pa.Table, columns: tuple[str, ...] | None = None) -> Words:
    """Return uint64 (n,) over the given columns, or over all of them."""
    total = np.zeros(table.num_rows, dtype=np.uint64)
    for name in columns or table.column_names:
        salt = np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big"))
        start = 0
        for array in _pieces(table.column(name)):
            total[start : start + len(array)] += _mixed(_column_words(array) ^ salt)
            start += len(array)
    return mix(total)


def mix(words: Words) -> Words:
    """Return the splitmix64 finaliser of each word: every bit depends on every bit."""
    mixed = np.array(words, dtype=np.uint64)
    for start in range(0, len(mixed), CHUNK):
        _mixed(mixed[start : start + CHUNK])
    return mixed


def _mixed(words: Words) -> Words:
    """Mix words in their place."""
    words += np.uint64(0x9E3779B97F4A7C15)
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def _pieces(column: Any) -> list[Any]:
    """Return a column as arrays that fit the cache; one of few distinct values keeps its dictionary whole."""
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    pieces = []
    for chunk in chunks:
        array = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
        size = CHUNK
        if _repeats(array):
            array = array.dictionary_encode()
        if pa.types.is_dictionary(array.type):
            size = max(len(array), 1)
        elif _holds_numbers(array.type):
            size = max(CHUNK * len(array) // max(len(array.flatten()), 1), 1)
        pieces += [array.slice(start, size) for start in range(0, len(array), size)]
    return pieces


def _repeats(array: Any) -> bool:
    """Tell whether a column of texts says few of them often: telling them apart is then less work than hashing each."""
    import pyarrow as pa

    kind = array.type
    if len(array) < PROBE or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return False
    return len(array.slice(0, PROBE).dictionary_encode().dictionary) < PROBE // 2


def _column_words(array: Any) -> Words:
    """Return a new array of one word for each value: equal values, equal words."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        return _dictionary_words(array)
    if pa.types.is_null(kind):
        return np.full(len(array), NULL, dtype=np.uint64)
    if _holds_numbers(kind):
        return _list_words(array)
    if pa.types.is_nested(kind):
        array = pa.array([None if value is None else repr(value) for value in array.to_pylist()], pa.string())
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        array = array.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    elif pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        return _number_words(array)
    return _text_words(array if pa.types.is_large_binary(array.type) else array.cast(pa.large_binary()))


def _dictionary_words(array: Any) -> Words:
    known = _column_words(array.dictionary) if len(array.dictionary) else np.zeros(0, dtype=np.uint64)
    indices = array.indices.fill_null(len(known)) if array.indices.null_count else array.indices
    words: Words = np.append(known, NULL)[indices.to_numpy(zero_copy_only=False)]
    return words


def _number_words(array: Any) -> Words:
    import pyarrow as pa

    array = array.cast(pa.float64(), safe=False)
    if array.null_count:
        array = array.fill_null(np.nan)
    values = array.to_numpy(zero_copy_only=False) + 0.0  # minus zero becomes zero
    words: Words = values.view(np.uint64)
    words[np.isnan(values)] = NULL
    return words


def _list_words(array: Any) -> Words:
    """Hash each list of numbers by its length and its numbers in their places."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    places = (np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)).astype(np.uint64)
    sums = np.zeros(ends[-1] + 1, dtype=np.uint64)
    np.cumsum(_mixed(_number_words(array.flatten()) ^ _mixed(places)), out=sums[1:])
    words = _mixed((sums[ends[1:]] - sums[ends[:-1]]) ^ _mixed(lengths.astype(np.uint64)))
    if array.null_count:
        words[array.is_null().to_numpy(zero_copy_only=False)] = NULL
    return words


def _holds_numbers(kind: Any) -> bool:
    import pyarrow as pa

    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    return bool(pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))


def _text_words(array: Any) -> Words:
    """Hash each text by its length and its bytes, eight at a time for all rows together."""
    _, offsets_buffer, data_buffer = array.buffers()
    ends = np.frombuffer(offsets_buffer, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    starts, lengths = ends[:-1] - ends[0], np.diff(ends)
    data = np.frombuffer(data_buffer or b"", dtype=np.uint8)[ends[0] : ends[-1]]
    words = _mixed(lengths.astype(np.uint64))
    short = lengths <= LONG
    if short.all():
        _add_bytes(words, data, starts, lengths)
    else:
        _add_bytes(words, data, starts, np.where(short, lengths, 0))
        for row in np.flatnonzero(~short).tolist():
            text = data[starts[row] : starts[row] + lengths[row]]
            words[row] = int.from_bytes(hashlib.blake2b(text.tobytes(), digest_size=8).digest(), "big")
    if array.null_count:
        words[array.is_null().to_numpy(zero_copy_only=False)] = NULL
    return words


def _add_bytes(words: Words, data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
    """Fold each row's bytes into its word, in place."""
    padded = np.zeros(len(data) + 8, dtype=np.uint8)
    padded[: len(data)] = data
    # A word from every byte on: rows begin anywhere.
    eights: Words = np.ndarray((len(data) + 1,), dtype="<u8", buffer=padded, strides=(1,))
    for place in range(0, int(lengths.max(initial=0)), 8):
        rows: Any = slice(None) if lengths.min() > place else np.flatnonzero(lengths > place)
        found = eights[starts[rows] + place]
        cut = (EIGHT - np.minimum(lengths[rows] - place, 8).astype(np.uint64)) << np.uint64(3)
        # Two shifts: one by 64 bits has no defined result.
        half = cut >> np.uint64(1)
        found = (found << half << (cut - half)) ^ words[rows]
        words[rows] = _mixed(found)
