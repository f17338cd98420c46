"""Where a table comes from. Each kind of source is one small file behind the seam ``Connector``.

A source that fits is read once, by the driver; a larger one is read on the cluster.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from rayline.config import DataConfig
from rayline.errors import DataError
from rayline.features.sources.formats import csv_options
from rayline.features.sources.listing import Files, find_files
from rayline.features.sources.python import handed_over
from rayline.features.sources.seam import Connector, connector_for

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Connector",
    "Files",
    "connector_for",
    "csv_options",
    "damaged_file",
    "find_files",
    "handed_over",
    "parts_of",
    "read_dataset",
    "read_table",
    "source_digest",
    "too_large",
]

ONE_READ_BYTES = 256 * 2**20  # of rows in memory: what is not larger is read once, by the driver
HEAD_BYTES = 64 * 2**20


def read_table(data: DataConfig, *, head: bool = False) -> pa.Table:
    """Read a source into memory.

    Args:
        data: the source.
        head: read no more than about the first 64 MiB, enough to infer a schema from.

    Returns:
        The table, in the order that the source has: of the files' names and of the rows in them, or of the query.

    Raises:
        ConfigError: the configuration names no source.
        NotFoundError: there is no such file, table or data set; it names the nearest.
        DataError: the source has no rows, or one of its files is empty, not of its format, or has other columns.
        EnvironmentFailed: a client library is missing, or the database cannot be reached.
    """
    table = connector_for(data).table(HEAD_BYTES if head else None)
    if not table.num_rows:
        why = "has a header and no rows" if data.sql is None else "gives no rows"
        raise DataError(f"data source '{data.label}' {why}. Give one with data.")
    return table


def read_dataset(data: DataConfig, schema: pa.Schema | None = None, columns: tuple[str, ...] | None = None) -> Any:
    """Return a source as a ``ray.data.Dataset``, read in parallel where it is large.

    Args:
        data: the source.
        schema: physical types of a CSV's columns, from its head; whole numbers are widened to doubles, since a later
            block may have fractions.
        columns: what to read; all columns where None.

    Raises:
        RaylineError: as ``read_table``; values are read when the Dataset is executed.
    """
    from rayline.features.blocks import in_blocks

    if too_large(data):
        return connector_for(data).dataset(schema, columns)
    table = read_table(data)
    return in_blocks(table.select(list(columns)) if columns else table)


def damaged_file(data: DataConfig) -> str | None:
    """Return which file of a Parquet source cannot be read, and why; None where all can. Reads until it finds it.

    Ray's reader says what is wrong with a page, and not in which file.
    """
    import pyarrow as pa
    from pyarrow import parquet

    from rayline.features.sources.files import FileSource

    for _, each in parts_of(data):
        if not isinstance(connector_for(each), FileSource):
            continue
        files = find_files(each)
        for path in files.paths if files.format == "parquet" else ():
            try:
                with files.filesystem.open_input_file(path) as file:
                    for _ in parquet.ParquetFile(file).iter_batches():
                        pass
            except (pa.ArrowException, OSError) as error:
                return f"file '{path}': {str(error).rstrip('.')}"
    return None


def source_digest(data: DataConfig) -> str:
    """Return 16 hex digits that change when the source's content does, or that of the files that the split names.

    Local files are hashed whole; files elsewhere by path, size and time of change; a query by its rows, or by the
    answer to ``data.sql.version``; what was handed over from Python by its rows. Needs no Ray, but for a Ray Dataset.
    """
    first, *rest = (connector_for(each).digest() for _, each in parts_of(data))
    return hashlib.blake2b(" ".join([first, *rest]).encode(), digest_size=8).hexdigest() if rest else first


def parts_of(data: DataConfig) -> list[tuple[int, DataConfig]]:
    """Return the sources by the part that their rows belong to: 0 is the source itself, 1 valid, 2 test."""
    files = ((1, data.split.valid), (2, data.split.test))
    return [(0, data), *((part, replace(data, source=file, sql=None)) for part, file in files if isinstance(file, str))]


def too_large(data: DataConfig) -> bool:
    """Return whether a source is read in parallel on the cluster rather than once, here."""
    return connector_for(data).larger_than(ONE_READ_BYTES)
