"""Read one file of CSV, Parquet or JSON lines: its columns, its head or all of it."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.errors import DataError
from rayline.features.sources.listing import Files

if TYPE_CHECKING:
    import pyarrow as pa

HEADER_BYTES = 1 << 20  # of a file, enough for its header
OTHER_DELIMITERS = (";", "\t", "|", ",")


def read_file(files: Files, path: str, head: int | None = None) -> pa.Table:
    """Return a file's rows, with the columns that ``key=value`` folders on its path stand for.

    Args:
        files: what ``path`` is one of.
        head: about how many bytes are enough; everything where None.

    Raises:
        DataError: the file is empty, cannot be read, is not of its format, or has one column twice.
    """
    with named_errors(files, path):
        table = _READ_HEAD[files.format](files, path, head) if head else _READ_ALL[files.format](files, path)
    if files.format == "csv":
        _refuse_wrong_text(table, files, path)
    refuse_twins(table.column_names, f"file '{path}'")
    return with_folders(table, path)


def columns_of(files: Files, path: str) -> pa.Schema:
    """Return a file's columns without reading its rows: Parquet's types, and names alone of CSV and JSON lines.

    Raises:
        DataError: as ``read_file``.
    """
    if files.format == "parquet":
        import pyarrow as pa

        with named_errors(files, path):
            schema = _parquet_columns(files, path)
        refuse_twins(schema.names, f"file '{path}'")
        folders = [pa.field(name, pa.string()) for name in folders_of(path) if name not in schema.names]
        return pa.schema([*schema, *folders])
    return read_file(files, path, HEADER_BYTES).schema


def uncompressed_bytes(files: Files, path: str) -> int:
    """Return how much memory a Parquet file's columns take, from its footer. Raises ``DataError``."""
    from pyarrow import parquet

    with named_errors(files, path):
        found = parquet.read_metadata(path, filesystem=files.filesystem)
    return sum(found.row_group(place).total_byte_size for place in range(found.num_row_groups))


def csv_options(
    path: str,
    types: dict[str, Any] | None = None,
    delimiter: str | None = None,
    columns: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return the parsing rules of a CSV file, for ``pyarrow.csv`` and Ray alike: an empty field is no value.

    No ``columns`` means all of them.
    """
    from pyarrow import csv

    sign = delimiter or ("\t" if ".tsv" in [suffix.lower() for suffix in Path(path).suffixes] else ",")
    return {
        "convert_options": csv.ConvertOptions(
            strings_can_be_null=True, column_types=types, include_columns=list(columns)
        ),
        "parse_options": csv.ParseOptions(newlines_in_values=True, delimiter=sign),
    }


def folders_of(path: str) -> dict[str, str]:
    """Return the values that folders such as ``year=2011`` on a path give to all rows of the file."""
    pairs = [part.partition("=") for part in path.split("/")[:-1]]
    return {name: value for name, sign, value in pairs if sign and name}


def refuse_twins(names: list[str], where: str) -> None:
    """Raise ``DataError`` where two columns have one name."""
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise DataError(f"{where} has the column '{twins[0]}' more than once. Rename one of them.")


@contextmanager
def named_errors(files: Files, path: str) -> Iterator[None]:
    """Say what Arrow and the filesystem raise of a file as a ``DataError`` that names it."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError) as error:
        empty = not files.sizes[files.paths.index(path)] or "Empty" in str(error)
        if empty:
            raise DataError(f"file '{path}' is empty. Give a file with a header and rows.") from error
        reason = _one_line(error)
        out = _way_out(files, path, reason)
        raise DataError(f"file '{path}' is not valid {files.format}: {reason}. {out}") from error
    except OSError as error:  # Arrow says this of a damaged Parquet page, too
        raise DataError(f"file '{path}' cannot be read: {_one_line(error)}. Write it anew, or leave it out.") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _way_out(files: Files, path: str, reason: str) -> str:
    if "conversion error" in reason:
        return "The first rows of the source tell a column's type: mend that value."
    if "unexpected field" in reason:
        return "It has a key that the first rows of the source do not have: rename it, or give it there, too."
    if files.format == "csv":
        with files.filesystem.open_input_stream(path) as stream:
            if stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                return "It is UTF-16: save the file as UTF-8."
        return "Mend that row, or set data.delimiter where the file is not separated by commas."
    if files.format == "jsonl":
        return "Each line must be one JSON object."
    return "Write it anew, or set data.format where it is something else."


def _csv(files: Files, path: str) -> pa.Table:
    from pyarrow import csv

    with files.filesystem.open_input_stream(path) as stream:
        return csv.read_csv(stream, **csv_options(path, delimiter=files.delimiter))


def _csv_head(files: Files, path: str, head: int) -> pa.Table:
    """Read the first block alone: Arrow ends it after a whole row, whatever line breaks the last value has."""
    import pyarrow as pa
    from pyarrow import csv

    with files.filesystem.open_input_stream(path) as stream:
        rules = csv_options(path, delimiter=files.delimiter)
        reader = csv.open_csv(stream, read_options=csv.ReadOptions(block_size=head, use_threads=False), **rules)
        first = next(iter(reader), None)
        return pa.Table.from_batches([] if first is None else [first], reader.schema)


def _json(files: Files, path: str) -> pa.Table:
    from pyarrow import json

    with files.filesystem.open_input_stream(path) as stream:
        return json.read_json(stream)


def _json_head(files: Files, path: str, head: int) -> pa.Table:
    import pyarrow as pa
    from pyarrow import json

    with files.filesystem.open_input_stream(path) as stream:
        text = stream.read(head)
    return json.read_json(pa.BufferReader(text[: text.rfind(b"\n") + 1] or text))


def _parquet(files: Files, path: str) -> pa.Table:
    from pyarrow import parquet

    with files.filesystem.open_input_file(path) as file:
        return parquet.ParquetFile(file).read()


def _parquet_head(files: Files, path: str, head: int) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    with files.filesystem.open_input_file(path) as file:
        opened = parquet.ParquetFile(file)
        groups, taken = [], 0
        for place in range(opened.num_row_groups):
            groups.append(place)
            taken += opened.metadata.row_group(place).total_byte_size
            if taken >= head:
                break
        return opened.read_row_groups(groups) if groups else pa.Table.from_batches([], opened.schema_arrow)


def _parquet_columns(files: Files, path: str) -> pa.Schema:
    from pyarrow import parquet

    return parquet.read_schema(path, filesystem=files.filesystem).remove_metadata()


_READ_ALL: dict[str, Callable[[Files, str], Any]] = {"csv": _csv, "jsonl": _json, "parquet": _parquet}
_READ_HEAD: dict[str, Callable[[Files, str, int], Any]] = {
    "csv": _csv_head,
    "jsonl": _json_head,
    "parquet": _parquet_head,
}


def with_folders(table: pa.Table, path: str) -> pa.Table:
    """Return a table with a column for each folder on its path that says ``column=value``."""
    import pyarrow as pa

    for name, value in folders_of(path).items():
        if name not in table.column_names:
            table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
    return table


def _refuse_wrong_text(table: pa.Table, files: Files, path: str) -> None:
    """Refuse a CSV file that is read as one column of lines, or whose bytes are no UTF-8."""
    import pyarrow as pa

    try:
        name = table.column_names[0]
    except UnicodeDecodeError as error:
        raise DataError(f"file '{path}': its header is not UTF-8 text. Save the file as UTF-8.") from error
    other = next((sign for sign in OTHER_DELIMITERS if sign in name), None)
    if table.num_columns == 1 and other is not None:
        raise DataError(
            f"file '{path}' has one column, '{name[:60]}': its values seem to be separated by {other!r}. "
            f"Set data.delimiter to {other!r}."
        )
    for field in table.schema:
        if pa.types.is_binary(field.type):
            raise DataError(f"file '{path}': column '{field.name}' is not UTF-8 text. Save the file as UTF-8.")
