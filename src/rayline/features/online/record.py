"""A row of the online store as bytes: compact, typed, and readable after its table's columns have changed.

A record is 8 bytes of event time, 4 bytes that name the list of columns, and the values as MessagePack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import msgspec

from rayline.errors import DataError, EnvironmentFailed
from rayline.features.joins.keys import key_text
from rayline.features.online.seam import Found, Key, Value

LONGEST_KEY = 400  # LMDB takes 511 bytes; a longer key is kept by its digest
HEADER = 12

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def key_bytes(key: Key) -> bytes | None:
    """Return a key as bytes, the same for every form of it; None where a part is missing. Raises ``ValueError``."""
    parts = []
    for each in key:
        text = key_text(each)
        if text is None:
            return None
        parts.append(text)
    content = _encode(parts)
    return content if len(content) <= LONGEST_KEY else b"\xff" + hashlib.blake2b(content, digest_size=32).digest()


def layout_of(columns: Sequence[str]) -> bytes:
    """Return the 4 bytes that name a list of columns."""
    return hashlib.blake2b(_encode(list(columns)), digest_size=4).digest()


def time_bytes(time: int) -> bytes:
    """Return an event time as the first 8 bytes of a record: signed, the highest byte first."""
    return time.to_bytes(8, "big", signed=True)


def time_of(record: bytes) -> int:
    """Return the event time of a record."""
    return int.from_bytes(record[:8], "big", signed=True)


def records(
    columns: Sequence[str], keys: Sequence[Key], times: Sequence[int], rows: Sequence[Sequence[Value]]
) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield key, event time and record of each row that has a key.

    Raises:
        DataError: a key or a value is none that can be kept, or a row has not one value per column.
    """
    layout, width = layout_of(columns), len(columns)
    for key, time, row in zip(keys, times, rows, strict=True):
        if len(row) != width:
            raise DataError(f"a row of {len(row)} values was given for the {width} columns {', '.join(columns)}.")
        try:
            name = key_bytes(key)
            if name is not None:
                yield name, time, time_bytes(time) + layout + _encode(row)
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"the row of key {key!r} cannot be kept: {error}.") from error


class Layouts:
    """The lists of columns that a store's records were written with, remembered by table."""

    def __init__(self, read: Callable[[str], Sequence[Sequence[str]]]) -> None:
        """``read`` gives all lists of columns that a store has for a table."""
        self._read = read
        self._known: dict[tuple[str, bytes], tuple[str, ...]] = {}

    def found(self, table: str, record: bytes) -> Found:
        """Return what a record holds. Raises ``EnvironmentFailed`` where the store does not know its columns."""
        columns = self._known.get((table, record[8:HEADER]))
        if columns is None:
            columns = self._learned(table, record[8:HEADER])
        return Found(time_of(record), dict(zip(columns, _decode(record[HEADER:]), strict=True)))

    def _learned(self, table: str, layout: bytes) -> tuple[str, ...]:
        self._known |= {(table, layout_of(each)): tuple(each) for each in self._read(table)}
        try:
            return self._known[table, layout]
        except KeyError:
            raise EnvironmentFailed(
                f"the online store holds rows of '{table}' with columns that it does not list: it is damaged. "
                "Remove it, and write it anew with `rayline features materialize`."
            ) from None


def listed(columns: Sequence[str]) -> bytes:
    """Return a list of columns as a store keeps it beside the rows."""
    return _encode(list(columns))


def unlisted(content: bytes) -> list[str]:
    """Return the columns of ``listed``."""
    columns: list[str] = _decode(content)
    return columns
