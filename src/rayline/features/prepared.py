"""What the features step leaves on disk, and how the steps after it read it. Neither needs Ray to be running."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rayline.errors import DataError, NotFoundError
from rayline.features.transform import FittedFeatureSet

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
FEATURES = "features.json"
REFERENCE = "reference.json"
FACTS = "facts.json"


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What data was used.

    Attributes:
        digest: 32 hex digits over the rows' content, whatever their order.
        rows: rows of the parts ``train``, ``valid`` and ``test``.
        warnings: what validation remarked and the features handle, one sentence each.
        anomalies: how many rows broke each rule of the schema, by the rule's name.
        quarantined: how many rows were set aside, in the folder ``quarantine``.
    """

    source: str
    digest: str
    rows: dict[str, int]
    schema_fingerprint: str
    warnings: tuple[str, ...] = ()
    anomalies: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A finished features step: the fitted features, the three parts and the facts."""

    path: Path
    features: FittedFeatureSet
    facts: DataFacts

    @classmethod
    def load(cls, path: str | Path) -> Prepared:
        """Read a finished features step.

        Raises:
            NotFoundError: there is none at ``path``.
            DataError: its files are damaged or of another format.
        """
        folder = Path(path)
        try:
            features = FittedFeatureSet.from_json(json.loads((folder / FEATURES).read_text(encoding="utf-8")))
            raw = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            if raw.pop("format") != FORMAT:
                raise DataError(f"prepared data in '{folder}' is of another Rayline's format. Use `--fresh`.")
            return cls(folder, features, DataFacts(**{**raw, "warnings": tuple(raw["warnings"])}))
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
        return self._table("test")

    def example(self, rows: int = 5) -> list[dict[str, Any]]:
        """Return some raw test rows as a request would send them: the input columns, JSON-ready."""
        table = self.test_table().slice(0, rows).select(list(self.features.input_columns))
        return [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]

    def reference(self) -> dict[str, Any]:
        """Return the reference statistics of the training part, as ``rayline.features.reference`` describes them."""
        values: dict[str, Any] = json.loads((self.path / REFERENCE).read_text(encoding="utf-8"))
        return values

    def dataset(self, part: Literal["train", "valid", "test"]) -> Any:
        """Return a part as a ``ray.data.Dataset``: columns ``x`` and ``y``, or the raw rows of ``test``."""
        import ray.data

        return ray.data.read_parquet(str(self.path / f"{part}.parquet"))

    def _arrays(self, part: str) -> tuple[NDArray[np.float32], NDArray[Any]]:
        table = self._table(part).combine_chunks()
        x = table.column("x").combine_chunks().flatten().to_numpy().reshape(-1, self.features.width)
        # Copies: what comes from Arrow is read-only, and torch takes writable arrays.
        return np.array(x), np.array(table.column("y").to_numpy())

    def _table(self, part: str) -> pa.Table:
        from pyarrow import parquet

        return parquet.read_table(self.path / f"{part}.parquet")


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
    """Write the JSON files of a features step."""
    for name, values in (
        (FEATURES, features.to_json()),
        (REFERENCE, reference),
        (FACTS, {"format": FORMAT, **asdict(facts)}),
    ):
        (folder / name).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value
