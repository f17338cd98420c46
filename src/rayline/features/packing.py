"""A state as JSON plus Arrow: what is long becomes Arrow arrays, and what is left is small enough to read.

A list of 256 or more numbers, or of as many texts, or a rectangle of as many numbers, leaves the JSON for a column of
one Arrow table, and ``{"$arrow": name, "type": ..., "length": ...}`` stands in its place. The way back gives the very
same values: integers stay integers, and NaN, infinities and the sign of zero are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rayline.errors import SchemaError
from rayline.features import arrow_file

if TYPE_CHECKING:
    import pyarrow as pa

LONG = 256  # elements
POINTER = "$arrow"
MARK = "$"  # keys of the state's own that begin with it are written with one more
INTEGERS = range(-(2**63), 2**63)


def packed(raw: Mapping[str, Any]) -> tuple[dict[str, Any], pa.Table | None]:
    """Return a state's values with pointers in place of what is long, and the table that they point into.

    Args:
        raw: JSON-ready values with text keys.

    Returns:
        The values that stay, and a table of one row with one column for each long list, named by its place
        (``columns.3.levels``); None where nothing is long.
    """
    lists: dict[str, Any] = {}
    left: dict[str, Any] = _taken_out(raw, (), lists)
    if not lists:
        return left, None
    import pyarrow as pa

    return left, pa.table(lists)


def unpacked(raw: Mapping[str, Any], table: pa.Table | None) -> dict[str, Any]:
    """Return the values that ``packed`` was given.

    Raises:
        SchemaError: a pointer leads nowhere, or to something else than it says.
    """
    values: dict[str, Any] = _put_back(raw, table)
    return values


def to_bytes(table: pa.Table) -> bytes:
    """Return a table as an Arrow IPC file: equal tables give equal bytes."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    content: bytes = sink.getvalue().to_pybytes()
    return content


def from_bytes(content: bytes) -> pa.Table:
    """Return the table of an Arrow IPC file, every offset and text in it checked. Raises ``SchemaError``."""
    return arrow_file.read(content)


def _taken_out(value: Any, place: tuple[str, ...], lists: dict[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {
            f"{MARK}{key}" if key.startswith(MARK) else key: _taken_out(each, (*place, key), lists)
            for key, each in value.items()
        }
    if not isinstance(value, list | tuple):
        return value
    array = _as_array(value)
    if array is None:
        return [_taken_out(each, (*place, str(index)), lists) for index, each in enumerate(value)]
    name = ".".join(place)
    while name in lists:  # the keys themselves may hold dots
        name += "'"
    lists[name] = array
    return {POINTER: name, "type": str(array.type.value_type), "length": len(value)}


def _as_array(value: Sequence[Any]) -> Any:
    """Return an Arrow array of one list, where the list is long and of one kind; else None."""
    width, flat = _flat(value)
    kinds = {type(each) for each in flat}
    if len(flat) < LONG or kinds not in ({str}, {int}, {float}) or (width and kinds == {str}):
        return None
    if kinds == {int} and not all(each in INTEGERS for each in flat):
        return None
    import pyarrow as pa

    inner = {str: pa.string(), int: pa.int64(), float: pa.float64()}[kinds.pop()]
    try:
        return pa.array([value], pa.large_list(pa.list_(inner, width) if width else inner))
    except UnicodeEncodeError:  # half of a surrogate pair is a text for JSON and none for Arrow
        return None


def _flat(value: Sequence[Any]) -> tuple[int, Sequence[Any]]:
    """Return the elements of a list, with width 0, or of its rows where they all have the same width."""
    rows = [each for each in value if isinstance(each, list | tuple)]
    if not rows:
        return 0, value
    width = len(rows[0])
    if len(rows) != len(value) or any(len(row) != width for row in rows):
        return 0, ()
    return width, [each for row in rows for each in row]


def _put_back(value: Any, table: pa.Table | None) -> Any:
    if isinstance(value, Mapping):
        if POINTER in value:
            return _pointed(value, table)
        return {key[1:] if key.startswith(MARK) else key: _put_back(each, table) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_put_back(each, table) for each in value]
    return value


def _pointed(pointer: Mapping[str, Any], table: pa.Table | None) -> list[Any]:
    name = pointer[POINTER]
    if table is None or name not in table.column_names or table.num_rows != 1:
        raise SchemaError(
            f"the state points to '{name}', which its Arrow file does not hold. Make it anew with `--fresh`."
        )
    found = table.column(name).to_pylist()[0]
    if found is None or len(found) != pointer.get("length"):
        raise SchemaError(
            f"the state's list '{name}' must have {pointer.get('length')} elements and has {len(found or ())}. "
            "Make it anew with `--fresh`."
        )
    values: list[Any] = found
    return values
