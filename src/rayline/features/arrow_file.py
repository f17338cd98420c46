"""An Arrow IPC file from who knows where, read only where it can take no more memory than it has bytes.

Arrow checks that buffers lie inside the file. Three things can still be larger than they look: a compressed buffer says
its own size, a column of nulls, of runs or of views has any length for no bytes at all, and dictionaries repeat. So the
types are held against the few that a state has, and no buffer may be compressed. Whether one is, only the metadata of
its batch tells, which PyArrow does not show: it is read here, as FlatBuffers lay it out
(https://flatbuffers.dev/internals/, https://github.com/apache/arrow/blob/main/format/File.fbs and Message.fbs).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from rayline.errors import SchemaError

if TYPE_CHECKING:
    import pyarrow as pa

MAGIC = b"ARROW1"
BLOCK_BYTES = 24
_DICTIONARIES, _BATCHES = 2, 3  # fields of a Footer
_HEADER = 2  # of a Message
_COMPRESSION = 3  # of a RecordBatch


def read(content: bytes) -> pa.Table:
    """Return the table of an Arrow file with one batch of long lists, every offset and text in it checked.

    Raises:
        SchemaError: it is damaged, or holds anything else.
    """
    import pyarrow as pa

    try:
        _refuse_compressed(content)
        reader = pa.ipc.open_file(pa.BufferReader(content))
        for field in reader.schema:
            if not _is_long_list(field.type):
                raise SchemaError(f"the state's Arrow file holds {field.type}, which no state has.")
        table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, struct.error, ValueError) as error:
        raise SchemaError(f"the state's Arrow file is damaged: {error}. Make it anew with `--fresh`.") from error
    return table


def _is_long_list(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    if not types.is_large_list(kind):
        return False
    inner = kind.value_type
    if types.is_fixed_size_list(inner):
        return bool(inner.list_size > 0 and (types.is_int64(inner.value_type) or types.is_float64(inner.value_type)))
    return bool(types.is_string(inner) or types.is_int64(inner) or types.is_float64(inner))


def _refuse_compressed(content: bytes) -> None:
    """Raise ``SchemaError`` for compressed buffers or dictionaries; ``struct.error`` where a place is not there."""
    if len(content) < 24 or not content.startswith(MAGIC) or not content.endswith(MAGIC):
        raise SchemaError("the state's Arrow file is damaged: it does not begin and end as one.")
    footer_bytes = _number("<i", content, len(content) - 10)
    footer = _Table.root(content, len(content) - 10 - footer_bytes)
    if footer.vector(_DICTIONARIES)[1]:
        raise SchemaError("the state's Arrow file holds dictionaries, which no state has.")
    first, count = footer.vector(_BATCHES)
    if count > 1:
        raise SchemaError(f"the state's Arrow file holds {count} batches, and a state has one.")
    for at in range(first, first + count * BLOCK_BYTES, BLOCK_BYTES):
        start = _number("<q", content, at)
        prefix = 8 if _number("<I", content, start) == 0xFFFFFFFF else 4
        batch = _Table.root(content, start + prefix).table(_HEADER)
        if batch.place(_COMPRESSION):
            raise SchemaError("the state's Arrow file is compressed, which no state is.")


class _Table:
    """A FlatBuffers table: its fields by their number in the schema."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self._at = content, at
        self._fields = at - _number("<i", content, at)

    @classmethod
    def root(cls, content: bytes, at: int) -> _Table:
        return cls(content, at + _number("<I", content, at))

    def place(self, field: int) -> int:
        """Return where a field lies; 0 where it is absent."""
        if 4 + 2 * field >= _number("<H", self._content, self._fields):
            return 0
        offset = _number("<H", self._content, self._fields + 4 + 2 * field)
        return self._at + offset if offset else 0

    def table(self, field: int) -> _Table:
        at = self.place(field)
        if not at:
            raise SchemaError("the state's Arrow file is damaged: a batch has no header.")
        return _Table.root(self._content, at)

    def vector(self, field: int) -> tuple[int, int]:
        """Return where the elements of a vector begin, and how many there are."""
        at = self.place(field)
        if not at:
            return 0, 0
        at += _number("<I", self._content, at)
        return at + 4, _number("<I", self._content, at)


def _number(kind: str, content: bytes, at: int) -> int:
    if at < 0:
        raise struct.error("a place before the file")
    number: int = struct.unpack_from(kind, content, at)[0]
    return number
