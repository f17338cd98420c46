"""Files of text, read on the cluster: each by one task, block by block.

Ray's own readers of CSV and JSON lines keep back what is wrong in which file, and the second reads a file whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rayline.features.sources.formats import csv_options, folders_of, named_errors, with_folders
from rayline.features.sources.listing import Files

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 16 * 2**20  # of text at a time
MOST_TASKS = 1_000
PATH = "path"


def text_dataset(files: Files, types: Mapping[str, Any] | None, columns: tuple[str, ...] | None) -> Any:
    """Return CSV or JSON lines as a lazy ``ray.data.Dataset``, in the order of the files.

    Args:
        types: of the columns, in every file; each file's own first block says them where None.
        columns: what to read; all columns where None.
    """
    import ray.data

    paths = [{PATH: path} for path in files.paths]
    tasks = min(len(paths), MOST_TASKS)
    read = _ReadText(files, None if types is None else dict(types), columns)
    return ray.data.from_items(paths, override_num_blocks=tasks).map_batches(
        read, batch_format="pyarrow", batch_size=None, zero_copy_batch=True
    )


@dataclass(frozen=True, slots=True)
class _ReadText:
    files: Files
    types: dict[str, Any] | None
    columns: tuple[str, ...] | None

    def __call__(self, paths: pa.Table) -> Iterator[pa.Table]:
        for path in paths.column(PATH).to_pylist():
            read = self._csv if self.files.format == "csv" else self._json
            with named_errors(self.files, path):
                for table in read(path):
                    whole = with_folders(table, path)
                    yield whole if self.columns is None else whole.select(list(self.columns))

    def _csv(self, path: str) -> Iterator[pa.Table]:
        import pyarrow as pa
        from pyarrow import csv

        inside = tuple(name for name in self.columns or () if name not in folders_of(path))
        rules = csv_options(path, self.types, self.files.delimiter, inside)
        with self.files.filesystem.open_input_stream(path) as stream:
            options = csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
            for batch in csv.open_csv(stream, read_options=options, **rules):
                yield pa.Table.from_batches([batch])

    def _json(self, path: str) -> Iterator[pa.Table]:
        """Read the keys that the types name: another one is an error where all columns are read, not silence."""
        import pyarrow as pa
        from pyarrow import json

        rules = {}
        if self.types is not None:
            wanted = {name: kind for name, kind in self.types.items() if self.columns is None or name in self.columns}
            stray = "error" if self.columns is None else "ignore"
            schema = pa.schema(list(wanted.items()))
            rules["parse_options"] = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=stray)
        with self.files.filesystem.open_input_stream(path) as stream:
            options = json.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
            for batch in json.open_json(stream, read_options=options, **rules):
                yield pa.Table.from_batches([batch])
