"""Where a table comes from: files of CSV, Parquet or JSON lines by path, glob or URI, or a bundled scikit-learn set."""

from __future__ import annotations

import fnmatch
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.config import DataConfig
from rayline.errors import DataError, NotFoundError, suggestion

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
SKLEARN = ("breast_cancer", "diabetes", "digits", "iris", "wine")
ONE_READ_BYTES = 256 * 2**20  # what is not larger is read once, by the driver
HEAD_BYTES = 64 * 2**20
TARGET = "target"  # the target column of a scikit-learn set


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one source on one filesystem, in the order of their names."""

    filesystem: Any
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    format: str


def read_table(data: DataConfig, *, head: bool = False) -> pa.Table:
    """Read a source into memory.

    Args:
        data: the source and its format.
        head: read no more than about the first 64 MiB, enough to infer a schema from.

    Returns:
        The table, in the order of the files' names and of the rows in them.

    Raises:
        NotFoundError: no such file or data set; it names the nearest.
        DataError: a file is empty, has a header only, is not of its format, or has other columns than the first.
    """
    import pyarrow as pa

    if data.source.startswith("sklearn:"):
        return _sklearn_table(data.source.removeprefix("sklearn:"))
    files = find_files(data)
    tables: list[pa.Table] = []
    taken = 0
    for path, size in zip(files.paths, files.sizes, strict=True):
        if head and tables and taken + size > HEAD_BYTES:
            break
        table = _read_file(files, path, head and size > HEAD_BYTES)
        if tables:
            _refuse_other_columns(table, path, tables[0], files.paths[0])
            table = table.select(tables[0].column_names)
        tables.append(table)
        taken += size
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise DataError(f"the files of '{data.source}' disagree on a column's type: {error}.") from error
    if not table.num_rows:
        raise DataError(f"data source '{data.source}' has a header and no rows. Give a file with data.")
    return table


def find_files(data: DataConfig) -> Files:
    """Return the files that a path, directory, glob or URI names. Raises ``NotFoundError`` or ``DataError``."""
    import pyarrow as pa
    from pyarrow import fs

    try:
        local = "://" not in data.source
        filesystem, path = (fs.LocalFileSystem(), data.source) if local else fs.FileSystem.from_uri(data.source)
        infos = _listed(filesystem, path)
    except (pa.ArrowInvalid, OSError) as error:
        raise NotFoundError(f"data source '{data.source}' cannot be opened: {error}.") from error
    if not infos:
        raise NotFoundError(f"data source '{data.source}' does not exist. {_beside(path)}".rstrip())
    infos = sorted(infos, key=lambda info: info.path)
    return Files(
        filesystem,
        tuple(info.path for info in infos),
        tuple(info.size or 0 for info in infos),
        data.format if data.format != "auto" else _format_of(infos[0].path, data.source),
    )


def source_digest(data: DataConfig) -> str:
    """Return 16 hex digits that change when the source's content does, without Ray.

    Local files are hashed whole; files elsewhere by path, size and time of change.
    """
    digest = hashlib.blake2b(digest_size=8)
    if data.source.startswith("sklearn:"):
        import sklearn

        digest.update(f"{data.source} {sklearn.__version__}".encode())
        return digest.hexdigest()
    from pyarrow import fs

    files = find_files(data)
    for path, size in zip(files.paths, files.sizes, strict=True):
        digest.update(f"{Path(path).name} {size} ".encode())
        if isinstance(files.filesystem, fs.LocalFileSystem):
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        else:
            digest.update(f"{path} {files.filesystem.get_file_info(path).mtime_ns}".encode())
    return digest.hexdigest()


def read_dataset(data: DataConfig, schema: pa.Schema | None = None) -> Any:
    """Return a source as a ``ray.data.Dataset``, read in parallel where it is large.

    Args:
        data: the source and its format.
        schema: physical types of a CSV's columns, from its head; whole numbers are widened to doubles, since a later
            block may have fractions.

    Raises:
        NotFoundError, DataError: as ``read_table``; values are read when the Dataset is executed.
    """
    from rayline.features.blocks import in_blocks, quiet

    if not too_large(data):
        return in_blocks(read_table(data))
    import ray.data

    files = find_files(data)
    paths, common = list(files.paths), {"filesystem": files.filesystem, "file_extensions": None}
    with quiet():
        if files.format == "parquet":
            return ray.data.read_parquet(paths, **common)
        if files.format == "jsonl":
            return ray.data.read_json(paths, **common)  # PyArrow's reader takes JSON lines
        return ray.data.read_csv(paths, **common, **csv_options(paths[0], _widened(schema)))


def too_large(data: DataConfig) -> bool:
    """Return whether a source is read in parallel on the cluster rather than once, here."""
    return not data.source.startswith("sklearn:") and sum(find_files(data).sizes) > ONE_READ_BYTES


def csv_options(path: str, types: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the parsing rules of a CSV file, for ``pyarrow.csv`` and Ray alike: an empty field is no value."""
    from pyarrow import csv

    delimiter = "\t" if ".tsv" in Path(path).suffixes else ","
    return {
        "convert_options": csv.ConvertOptions(strings_can_be_null=True, column_types=types),
        "parse_options": csv.ParseOptions(newlines_in_values=True, delimiter=delimiter),
    }


def _widened(schema: pa.Schema | None) -> dict[str, Any] | None:
    import pyarrow as pa

    if schema is None:
        return None
    wide = {field.name: pa.float64() if pa.types.is_integer(field.type) else field.type for field in schema}
    return {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in wide.items()}


def _read_file(files: Files, path: str, head: bool) -> pa.Table:
    import pyarrow as pa

    try:
        table = _read_head(files, path) if head else _read_whole(files, path)
    except pa.ArrowInvalid as error:
        empty = not files.sizes[files.paths.index(path)] or "Empty" in str(error)
        reason = "is empty" if empty else f"is not valid {files.format}: {error}"
        raise DataError(f"file '{path}' {reason}. Give a file with a header and rows.") from error
    except OSError as error:
        raise DataError(f"file '{path}' cannot be read: {error}.") from error
    _refuse_twins(table, path)
    return table


def _read_whole(files: Files, path: str) -> pa.Table:
    from pyarrow import csv, json, parquet

    if files.format == "parquet":
        return parquet.read_table(path, filesystem=files.filesystem)
    with files.filesystem.open_input_stream(path) as stream:
        return csv.read_csv(stream, **csv_options(path)) if files.format == "csv" else json.read_json(stream)


def _read_head(files: Files, path: str) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv, json, parquet

    if files.format == "parquet":
        with files.filesystem.open_input_file(path) as file:
            return parquet.ParquetFile(file).read_row_group(0)
    with files.filesystem.open_input_stream(path) as stream:
        text = stream.read(HEAD_BYTES)
        text = text[: text.rfind(b"\n") + 1] or text
        if files.format == "jsonl":
            return json.read_json(pa.BufferReader(text))
        return csv.open_csv(pa.BufferReader(text), **csv_options(path)).read_all()


def _listed(filesystem: Any, path: str) -> list[Any]:
    from pyarrow import fs

    if any(sign in path for sign in "*?["):
        folder = path.rpartition("/")[0]
        while any(sign in folder for sign in "*?["):
            folder = folder.rpartition("/")[0]
        found = filesystem.get_file_info(fs.FileSelector(folder or ".", recursive=True, allow_not_found=True))
        pattern = path if folder else f"./{path}"
        return [
            info
            for info in found
            if info.type == fs.FileType.File and info.path.count("/") == pattern.count("/")
            if fnmatch.fnmatchcase(info.path, pattern)
        ]
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.File:
        return [info]
    if info.type == fs.FileType.Directory:
        found = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
        return [each for each in found if each.type == fs.FileType.File and _suffix(each.path) in SUFFIXES]
    return []


def _suffix(path: str) -> str:
    """Return the ending that tells the format, past a compression's."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix not in (".gz", ".bz2", ".zst")), "")


def _format_of(path: str, source: str) -> str:
    found = SUFFIXES.get(_suffix(path))
    if found is None:
        raise DataError(
            f"data source '{source}': the ending of '{Path(path).name}' tells no format. "
            "Set data.format to csv, parquet or jsonl."
        )
    return found


def _beside(path: str) -> str:
    folder = Path(path).parent
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    match = suggestion(Path(path).name, names) if names else ""
    return match if match.startswith("Did you mean") else ""


def _refuse_twins(table: pa.Table, path: str) -> None:
    names = table.column_names
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise DataError(f"file '{path}' has the column '{twins[0]}' more than once. Rename one of them.")


def _refuse_other_columns(table: pa.Table, path: str, first: pa.Table, first_path: str) -> None:
    here, there = set(table.column_names), set(first.column_names)
    if here != there:
        less, more = sorted(there - here), sorted(here - there)
        parts = [f"lacks {', '.join(less)}"] if less else []
        parts += [f"has {', '.join(more)} besides"] if more else []
        raise DataError(
            f"file '{path}' does not have the columns of '{first_path}': it {' and '.join(parts)}. "
            "All files of one source need the same columns."
        )


def _sklearn_table(name: str) -> pa.Table:
    import pyarrow as pa

    if name not in SKLEARN:
        raise NotFoundError(f"there is no bundled data set 'sklearn:{name}'. {suggestion(name, SKLEARN)}")
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")()
    target = loaded.target if name == "diabetes" else [str(loaded.target_names[index]) for index in loaded.target]
    columns = {str(column): loaded.data[:, index] for index, column in enumerate(loaded.feature_names)}
    return pa.table({**columns, TARGET: pa.array(target)})
