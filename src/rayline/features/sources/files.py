"""Files of CSV, Parquet or JSON lines, compressed too: by path, glob, folder or URI."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.config import DataConfig
from rayline.errors import DataError
from rayline.features.sources.formats import columns_of, folders_of, read_file, uncompressed_bytes
from rayline.features.sources.listing import Files, change_of, find_files, is_compressed
from rayline.features.sources.streaming import text_dataset

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_EXPANDS = 5  # about how many times compressed text grows
PIECE = 1 << 20
READERS_AT_ONCE = 16  # of footers and headers, which are small and far away


@dataclass(frozen=True)
class FileSource:
    """All files that ``data.source`` names; they have the same columns."""

    data: DataConfig

    @cached_property
    def files(self) -> Files:
        """The files, in the order of their names. Raises ``NotFoundError`` or ``DataError``."""
        return find_files(self.data)

    def table(self, head: int | None = None) -> pa.Table:
        """Return the rows of the files, one after the other. Raises ``DataError`` that names the first bad file."""
        import pyarrow as pa

        files = self.files
        tables: list[pa.Table] = []
        taken = 0
        for path, size in zip(files.paths, files.sizes, strict=True):
            if head is not None and tables and taken + size > head:
                break
            table = read_file(files, path, head if head is not None and size > head else None)
            if tables:
                _refuse_other_columns(table.column_names, path, tables[0].column_names, files.paths[0])
                table = table.select(tables[0].column_names)
                self._refuse_other_types(table.schema, path, tables[0].schema)
            tables.append(table)
            taken += size
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise DataError(f"the files of '{self.data.source}' disagree on a column's type: {error}.") from error

    def dataset(self, schema: pa.Schema | None, columns: tuple[str, ...] | None = None) -> Any:
        """Return the files as a Dataset, after the columns of each were compared with the first's."""
        import ray.data

        from rayline.features.blocks import quiet

        files = self.files
        self._compare_columns()
        with quiet():
            if files.format != "parquet":
                return text_dataset(files, _widened(schema, folders_of(files.paths[0])), columns)
            found = ray.data.read_parquet(list(files.paths), filesystem=files.filesystem, file_extensions=None)
            return found if columns is None else found.select_columns(list(columns))

    def digest(self) -> str:
        """Hash local files whole, and files elsewhere by path, size and mark of change."""
        from pyarrow import fs

        digest, files = hashlib.blake2b(digest_size=8), self.files
        local = isinstance(files.filesystem, fs.LocalFileSystem)
        marks = [None] * len(files.paths) if local else _each(lambda path: change_of(files, path), files.paths)
        for path, size, mark in zip(files.paths, files.sizes, marks, strict=True):
            digest.update(f"{Path(path).name} {size} ".encode())
            if mark is not None:
                digest.update(f"{path} {mark}".encode())
                continue
            with files.filesystem.open_input_file(path) as file:
                while piece := file.read(PIECE):
                    digest.update(piece)
        return digest.hexdigest()

    def larger_than(self, limit: int) -> bool:
        """Compare what the files take in memory: Parquet says it in its footers, compressed text is taken times 5."""
        files = self.files
        total = sum(
            size * (TEXT_EXPANDS if files.format != "parquet" and is_compressed(path) else 1)
            for path, size in zip(files.paths, files.sizes, strict=True)
        )
        if total > limit or files.format != "parquet":
            return total > limit
        return int(sum(_each(lambda path: uncompressed_bytes(files, path), files.paths))) > limit

    def _compare_columns(self) -> None:
        """Refuse a file with other columns before any is read: Ray would fill what it lacks with nothing."""
        files = self.files
        if files.format == "jsonl":  # a line leaves out what it has no value for; a key too many is told while reading
            return
        first, *rest = _each(lambda path: columns_of(files, path), files.paths)
        for path, found in zip(files.paths[1:], rest, strict=True):
            _refuse_other_columns(found.names, path, first.names, files.paths[0])
            if files.format == "parquet":
                self._refuse_other_types(found, path, first)

    def _refuse_other_types(self, found: pa.Schema, path: str, first: pa.Schema) -> None:
        import pyarrow as pa

        for field in found:
            known = first.field(field.name)
            try:
                pa.unify_schemas([pa.schema([known]), pa.schema([field])], promote_options="permissive")
            except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
                raise DataError(
                    f"the files of '{self.data.source}' disagree on a column's type: '{field.name}' is {field.type} in "
                    f"'{path}' and {known.type} in '{self.files.paths[0]}'. Mend the values, or leave that file out."
                ) from error


def _each(look: Callable[[str], Any], paths: tuple[str, ...]) -> list[Any]:
    with ThreadPoolExecutor(max_workers=min(READERS_AT_ONCE, len(paths))) as pool:
        return list(pool.map(look, paths))


def _widened(schema: pa.Schema | None, folders: Container[str]) -> dict[str, Any] | None:
    """Return the types to read text as: a later block may have fractions, or words where the head has nothing."""
    import pyarrow as pa

    if schema is None:
        return None
    wide = {
        field.name: pa.float64() if pa.types.is_integer(field.type) else field.type
        for field in schema
        if field.name not in folders
    }
    return {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in wide.items()}


def _refuse_other_columns(here: list[str], path: str, there: list[str], first_path: str) -> None:
    less, more = sorted(set(there) - set(here)), sorted(set(here) - set(there))
    if less or more:
        parts = [f"lacks {', '.join(less)}"] if less else []
        parts += [f"has {', '.join(more)} besides"] if more else []
        raise DataError(
            f"file '{path}' does not have the columns of '{first_path}': it {' and '.join(parts)}. "
            "All files of one source need the same columns."
        )
