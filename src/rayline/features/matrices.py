"""The fitted features applied to the parts: one Arrow file of 32-bit numbers for each file of raw rows.

Columns whose fitted state was applied to the very same rows before are copied from there; only the others are computed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline import storage
from rayline.errors import NotFoundError
from rayline.features.blocks import over
from rayline.features.kinds import FittedColumn
from rayline.features.schemas.schema import digest_of
from rayline.features.splits.parts import PartFile, Parts
from rayline.features.threads import is_large
from rayline.features.transform import FittedFeatureSet

if TYPE_CHECKING:
    import pyarrow as pa

APPLIED = ("train", "valid")
ORIGIN = "origin.json"


@dataclass(frozen=True, slots=True)
class Reused:
    """Columns of an earlier matrix over the same rows: where it is, and for each of ours the first place there."""

    folder: Path
    places: Mapping[int, int]


def write_matrices(parts: Parts, features: FittedFeatureSet, folder: Path, around: Path, *, here: bool = False) -> int:
    """Write the matrices of the training and the validation part.

    Args:
        parts: the raw rows.
        features: what to apply.
        folder: where ``train`` and ``valid`` are written, and what they were made of.
        around: the folder whose folders may hold earlier matrices.
        here: compute in this process, and not on Ray.

    Returns:
        How many columns were computed; the others are copies.
    """
    keys = _keys(features, parts)
    reused = _earlier(around, keys)
    for part in APPLIED:
        (folder / part).mkdir()
    large = is_large(sum(parts.facts.rows.values()), len(features.columns))
    files = [file for part in APPLIED for file in parts.of(part)]
    for _ in over(files, _Apply(features, parts, folder, reused, large), here=here):
        pass
    origin = {
        "parts": parts.identity,
        "rows": parts.path.name,
        "columns": {key: first for key, (first, _) in keys.items()},
    }
    (folder / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    return len(features.columns) - (len(reused.places) if reused else 0)


def stored_matrices(parts: Parts, folder: Path) -> dict[str, Path]:
    """Return where the files lie that ``write_matrices`` has put into an object store already: see ``storage.keep``."""
    return {_arrow(file): folder / _arrow(file) for part in APPLIED for file in parts.of(part)}


def rows_of(folder: Path) -> Path:
    """Return the folder of the parts that the matrices of a folder were made of. Raises ``NotFoundError``."""
    try:
        return folder.parent / str(json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFoundError(
            f"'{folder}' does not say which rows it was made of. Make it anew with `--fresh`."
        ) from error


def read_matrix(folder: Path, part: str, rows: int, width: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return a part as float32 (rows, width), and its targets: int64 class indices or float32 standardised values."""
    x, targets = np.empty((rows, width), dtype=np.float32), []
    start = 0
    for table in _tables(folder / part):
        x[start : start + table.num_rows] = _matrix(table, width)
        targets.append(table.column("y").to_numpy())
        start += table.num_rows
    return x, np.concatenate(targets)


def read_targets(folder: Path, part: str) -> Iterator[NDArray[Any]]:
    """Give the targets of a part file by file, as ``read_matrix`` gives them; the features are not read."""
    return (table.column("y").to_numpy() for table in _tables(folder / part))


def matrix_dataset(folder: Path, part: str, cpus: float = 1) -> Any:
    """Return a part as a ``ray.data.Dataset`` with the columns ``x`` and ``y``; each read takes so many CPUs."""
    import pyarrow as pa
    import ray.data

    files = sorted((folder / part).glob("*.arrow"))
    names = ray.data.from_arrow([pa.table({"file": [str(file)]}) for file in files])
    return names.map_batches(_Read(), batch_size=None, batch_format="pyarrow", num_cpus=cpus)


@dataclass(frozen=True, slots=True)
class _Read:
    def __call__(self, names: pa.Table) -> pa.Table:
        file = Path(names.column("file")[0].as_py())
        return _open(storage.fetch_part(file.parent.parent, f"{file.parent.name}/{file.name}"))


@dataclass(frozen=True, slots=True)
class _Apply:
    features: FittedFeatureSet
    parts: Parts
    folder: Path
    reused: Reused | None
    large: bool

    def __call__(self, file: PartFile) -> int:
        import pyarrow as pa

        features = self.features
        table = self.parts.read(file, self._reads(file))
        matrix = self._matrix(table, file)
        x = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), features.width)
        folder = storage.folder_of(self.folder)
        _write(folder / _arrow(file), pa.table({"x": x, "y": features.encode_target(table)}))
        return file.rows

    def _new(self) -> tuple[FittedColumn, ...]:
        known = self.reused.places if self.reused is not None else {}
        return tuple(each for place, each in enumerate(self.features.columns) if place not in known)

    def _reads(self, file: PartFile) -> tuple[str, ...]:
        """Return the raw columns that are needed: all of them where training rows are told apart by their hashes."""
        new, schema = self._new(), self.features.schema
        folds = file.part == "train" and any(hasattr(each, "folds") for each in new)
        names = schema.names if folds else [name for each in new for name in each.inputs]
        return (*dict.fromkeys(names), schema.target)

    def _matrix(self, table: pa.Table, file: PartFile) -> NDArray[np.float32]:
        training = file.part == "train"
        if self.reused is None:
            return self.features.transform(table, training=training, large=self.large)
        new = self._new()
        before = _open(storage.fetch_part(self.reused.folder, _arrow(file)))
        old = before.column("x").combine_chunks().flatten().to_numpy().reshape(file.rows, -1)
        made = (
            replace(self.features, columns=new).transform(table, training=training, large=self.large) if new else None
        )
        out = np.empty((file.rows, self.features.width), dtype=np.float32)
        first = taken = 0
        for place, column in enumerate(self.features.columns):
            width = len(column.output_names)
            if place in self.reused.places:
                source, start = old, self.reused.places[place]
            else:
                assert made is not None
                source, start, taken = made, taken, taken + width
            out[:, first : first + width] = source[:, start : start + width]
            first += width
        return out


def _keys(features: FittedFeatureSet, parts: Parts) -> dict[str, tuple[int, int]]:
    """Return, by the digest of each fitted column, its first output and its place."""
    keys: dict[str, tuple[int, int]] = {}
    first = 0
    for place, column in enumerate(features.columns):
        keys[digest_of({"column": column.to_json(), "parts": parts.identity})] = first, place
        first += len(column.output_names)
    return keys


def _earlier(around: Path, keys: Mapping[str, tuple[int, int]]) -> Reused | None:
    """Return the earlier matrix that has most of our columns, or None where none has any."""
    best: Reused | None = None
    for file in sorted(around.glob(f"*/{ORIGIN}")):
        try:
            columns = json.loads(file.read_text(encoding="utf-8"))["columns"]
        except (OSError, ValueError, KeyError, TypeError):  # being replaced, or cleared away
            continue
        places = {place: columns[key] for key, (_, place) in keys.items() if key in columns}
        if places and (best is None or len(places) > len(best.places)):
            best = Reused(file.parent, places)
    return best


def _arrow(file: PartFile) -> str:
    return file.name.replace(".parquet", ".arrow")


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    storage.keep(path)


def _open(path: Path) -> pa.Table:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _tables(folder: Path) -> Iterator[pa.Table]:
    return (_open(file) for file in sorted(folder.glob("*.arrow")))


def _matrix(table: pa.Table, width: int) -> NDArray[np.float32]:
    matrix: NDArray[np.float32] = table.column("x").combine_chunks().flatten().to_numpy().reshape(-1, width)
    return matrix
