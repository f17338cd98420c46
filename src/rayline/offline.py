"""Prediction of a whole file on Ray Data, by the same Bundle that serves."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.config import DataConfig
from rayline.project import Project

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_BLOCK = 50_000


@dataclass(frozen=True, slots=True)
class Predicted:
    """A file of predictions: where it is, by which version, how many rows, in how many seconds."""

    path: Path
    version: int
    rows: int
    seconds: float


def predict_file(project: Project, selector: str | None, rows: Path, out: Path) -> Predicted:
    """Predict each row of a file and write rows and answers together as one Parquet file.

    Raises:
        DataError: the file cannot be read, or lacks a column that the Bundle needs.
        NotFoundError: there is no such version.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet
    import ray.data

    import ray
    from rayline.features.sources import read_table

    began = time.perf_counter()
    table = read_table(DataConfig(source=str(rows.resolve())))
    version = project.store.version(project.config.name, selector)
    bundle = project.store.fetch(version, project.storage / "served")
    project.connect()
    dataset = ray.data.from_arrow(table).repartition(max(1, table.num_rows // ROWS_PER_BLOCK))
    answered = dataset.map_batches(
        _Predict, fn_constructor_args=(str(bundle),), batch_format="pyarrow", batch_size=None, concurrency=1
    )
    answers = pa.concat_tables(ray.get(answered.to_arrow_refs()))
    draft = out.with_name(f"{out.name}.{os.getpid()}.draft")
    parquet.write_table(answers, draft)
    draft.replace(out)
    return Predicted(out, version.number, table.num_rows, time.perf_counter() - began)


class _Predict:
    """Holds the Bundle in a Ray Data worker."""

    def __init__(self, path: str) -> None:
        from rayline.registry.bundle import Bundle

        self._predictor = Bundle.load(Path(path)).predictor()

    def __call__(self, batch: pa.Table) -> Any:
        import pyarrow as pa

        for name, values in pa.Table.from_pylist(self._predictor.predict_table(batch).records()).to_pydict().items():
            batch = batch.append_column(name, pa.array(values))
        return batch
