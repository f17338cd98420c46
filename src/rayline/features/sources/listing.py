"""Which files a path, folder, glob or URI names, on which filesystem and in which format."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayline.config import DataConfig
from rayline.errors import DataError, EnvironmentFailed, NotFoundError, suggestion

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
CLIENTS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "hdfs": "pyarrow"}

CHANGES = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "created")
"""What the clients behind fsspec call the tag and the time of change of a file."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one source on one filesystem, in the order of their names."""

    filesystem: Any
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    format: str
    delimiter: str | None = None


def find_files(data: DataConfig) -> Files:
    """Return the files that a path, folder, glob or URI names.

    Raises:
        NotFoundError: there is none; it names the nearest.
        DataError: the format is not told, or files of several formats lie in one folder.
        EnvironmentFailed: the client library of a URI's scheme is not installed.
    """
    import pyarrow as pa

    try:
        filesystem, path = opened(data.source)
        infos = _listed(filesystem, path)
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise NotFoundError(f"data source '{data.source}' cannot be opened: {_last_line(error)}.") from error
    if not infos:
        raise NotFoundError(f"data source '{data.source}' does not exist. {_beside(path)}".rstrip())
    infos = sorted(infos, key=lambda info: info.path)
    paths = tuple(info.path for info in infos)
    form = data.format if data.format != "auto" else _format_of(paths, data.source)
    return Files(filesystem, paths, tuple(info.size or 0 for info in infos), form, data.delimiter)


def opened(source: str) -> tuple[Any, str]:
    """Return the filesystem of a location and the path on it: Arrow's own, or else the one that fsspec knows."""
    import pyarrow as pa
    from pyarrow import fs

    if "://" not in source:
        return fs.LocalFileSystem(), source
    if "::" in source:  # a chain of fsspec's, such as zip://table.csv::https://host/tables.zip
        return _by_fsspec(source)
    try:
        filesystem, path = fs.FileSystem.from_uri(source)
        return filesystem, path
    except pa.ArrowNotImplementedError:  # this build of Arrow lacks the client
        return _by_fsspec(source)
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem" not in str(error):
            raise
        return _by_fsspec(source)


def is_compressed(path: str) -> bool:
    """Return whether a file's ending tells that its text is compressed."""
    return Path(path).suffix.lower() in COMPRESSED


def change_of(files: Files, path: str) -> str | None:
    """Return what changes with a file's content: its time of change or its tag, or None where neither is told."""
    moment = files.filesystem.get_file_info(path).mtime_ns
    if moment is not None:
        return str(moment)
    handler = getattr(files.filesystem, "handler", None)
    facts = handler.fs.info(path) if handler is not None else {}
    found = [f"{key}={facts[key]}" for key in CHANGES if facts.get(key)]
    return " ".join(found) or None


def _by_fsspec(source: str) -> tuple[Any, str]:
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    scheme = source.partition("://")[0]
    try:
        import fsspec  # type: ignore[import-untyped]
    except ImportError as error:
        raise EnvironmentFailed(f"data source '{source}' needs the package fsspec: pip install fsspec.") from error
    try:
        filesystem, path = fsspec.core.url_to_fs(source)
    except ImportError as error:
        client = CLIENTS.get(scheme, "the client of that scheme")
        raise EnvironmentFailed(
            f"data source '{source}' needs a client library that is not installed ({_last_line(error)}). "
            f"Install {client}, on every machine of the cluster."
        ) from error
    return PyFileSystem(FSSpecHandler(filesystem)), path


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
        start = len(path.rstrip("/"))
        return [
            each
            for each in found
            if each.type == fs.FileType.File and _suffix(each.path) in SUFFIXES and not _hidden(each.path[start:])
        ]
    return []


def _hidden(path: str) -> bool:
    """Tell what engines leave beside their data: ``_temporary``, ``.part-0.parquet``."""
    return any(part.startswith((".", "_")) and "=" not in part for part in path.split("/") if part)


def _suffix(path: str) -> str:
    """Return the ending that tells the format, past a compression's."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix not in COMPRESSED), "")


def _format_of(paths: tuple[str, ...], source: str) -> str:
    found: dict[str, str] = {}
    for path in paths:
        form = SUFFIXES.get(_suffix(path))
        if form is None:
            raise DataError(
                f"data source '{source}': the ending of '{Path(path).name}' tells no format. "
                "Set data.format to csv, parquet or jsonl."
            )
        found.setdefault(form, path)
    if len(found) > 1:
        named = " and ".join(f"{form} ('{Path(path).name}')" for form, path in sorted(found.items()))
        raise DataError(f"data source '{source}' holds {named}. Name the files of one format by a glob.")
    return next(iter(found))


def _beside(path: str) -> str:
    folder = Path(path).parent
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    match = suggestion(Path(path).name, names) if names else ""
    return match if match.startswith("Did you mean") else ""


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].rstrip(".")
