"""What the features step leaves on disk, and how the steps after it read it. Neither needs Ray to be running."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rayline import storage
from rayline.errors import DataError, NotFoundError
from rayline.features import packing
from rayline.features.facts import DataFacts
from rayline.features.matrices import matrix_dataset, read_matrix
from rayline.features.request_rows import request_rows
from rayline.features.transform import FittedFeatureSet

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 3
FEATURES = "features.json"
ARRAYS = "features.arrow"
SAMPLE = "sample"
REFERENCE = "reference.json"
FACTS = "facts.json"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A finished features step: the fitted features, the three parts and the facts.

    ``computed`` is how many features were computed when it was made, where the others were known; None of one that was
    loaded.
    """

    path: Path
    features: FittedFeatureSet
    facts: DataFacts
    computed: int | None = field(default=None, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Prepared:
        """Read a finished features step.

        Raises:
            NotFoundError: there is none at ``path``.
            DataError: its files are damaged or of another format.
        """
        folder = storage.refresh(Path(path))
        try:
            features = FittedFeatureSet.from_json(_read_features(folder))
            raw = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            if raw.pop("format") != FORMAT:
                raise DataError(f"prepared data in '{folder}' is of another Rayline's format. Use `--fresh`.")
            return cls(folder, features, DataFacts.from_json(raw))
        except FileNotFoundError as error:
            raise NotFoundError(f"'{folder}' holds no prepared data. `rayline run` makes it.") from error
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"prepared data in '{folder}' is damaged: {error}. Make it anew with `--fresh`.") from error

    def train(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return the training part: float32 (n, width), and int64 class indices or float32 standardised values."""
        return self._arrays("train")

    def valid(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return the validation part, as ``train``."""
        return self._arrays("valid")

    def test_table(self) -> pa.Table:
        """Return the raw rows of the test part, all columns of the source."""
        import pyarrow as pa
        from pyarrow import parquet

        tables = [parquet.read_table(file) for file in self._raw_files()]
        return pa.concat_tables(tables, promote_options="permissive")

    def example(self, rows: int = 5) -> list[dict[str, Any]]:
        """Return some raw test rows as a request would send them: the input columns, JSON-ready."""
        return request_rows(self.test_table().slice(0, rows), self.features.schema, self.features.input_columns)

    def sample(self) -> tuple[pa.Table, NDArray[np.float32]]:
        """Return some raw training rows, chosen by their hashes, and float32 (n, width): the batch path's features.

        Raises:
            NotFoundError: the features step left none.
        """
        from pyarrow import parquet

        try:
            return parquet.read_table(self.path / f"{SAMPLE}.parquet"), np.load(self.path / f"{SAMPLE}.npy")
        except FileNotFoundError as error:
            raise NotFoundError(
                f"'{self.path}' holds no sample of training rows. Make it anew with `--fresh`."
            ) from error

    def reference(self) -> dict[str, Any]:
        """Return the reference statistics of the training part, as ``rayline.features.reference`` describes them."""
        values: dict[str, Any] = json.loads((self.path / REFERENCE).read_text(encoding="utf-8"))
        return values

    def dataset(self, part: Literal["train", "valid", "test"]) -> Any:
        """Return a part as a ``ray.data.Dataset``: columns ``x`` and ``y``, or the raw rows of ``test``."""
        import ray.data

        if part == "test":
            return ray.data.read_parquet([str(file) for file in self._raw_files()])
        return matrix_dataset(self.path, part)

    def _arrays(self, part: str) -> tuple[NDArray[np.float32], NDArray[Any]]:
        return read_matrix(self.path, part, self.facts.rows[part], self.features.width)

    def _raw_files(self) -> list[Path]:
        return sorted((self.path / "test").glob("*.parquet"))


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give a new folder beside ``out`` that takes its place when the block ends well, and goes when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    fresh, old = out.with_name(f".{out.name}-{mark}"), out.with_name(f".{out.name}-{mark}-old")
    fresh.mkdir()
    try:
        yield fresh
        if out.exists():
            os.replace(out, old)
        os.replace(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_values(folder: Path, features: FittedFeatureSet, reference: dict[str, Any], facts: DataFacts) -> None:
    """Write the state and the facts of a features step: JSON, and Arrow for what is long."""
    left, arrays = packing.packed(features.to_json())
    if arrays is not None:
        (folder / ARRAYS).write_bytes(packing.to_bytes(arrays))
    for name, values in (
        (FEATURES, left),
        (REFERENCE, reference),
        (FACTS, {"format": FORMAT, **facts.to_json()}),
    ):
        (folder / name).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_sample(folder: Path, table: pa.Table, matrix: NDArray[np.float32]) -> None:
    """Write some raw training rows and their features, as ``Prepared.sample`` reads them."""
    from pyarrow import parquet

    parquet.write_table(table, folder / f"{SAMPLE}.parquet")
    np.save(folder / f"{SAMPLE}.npy", matrix)


def _read_features(folder: Path) -> dict[str, Any]:
    left = json.loads((folder / FEATURES).read_text(encoding="utf-8"))
    arrays = folder / ARRAYS
    return packing.unpacked(left, packing.from_bytes(arrays.read_bytes()) if arrays.exists() else None)
