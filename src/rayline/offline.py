"""Prediction of a whole file on Ray Data, by the same Bundle that serves."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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

    from rayline.features.blocks import fold, in_blocks
    from rayline.features.sources import read_table

    began = time.perf_counter()
    table = read_table(DataConfig(source=str(rows.resolve())))
    version = project.store.version(project.config.name, selector)
    bundle = project.store.fetch(version, project.storage / "served")
    project.connect()
    answers = pa.concat_tables(fold(in_blocks(table, ROWS_PER_BLOCK), _Answers(str(bundle.resolve()))))
    draft = out.with_name(f"{out.name}.{os.getpid()}.draft")
    parquet.write_table(answers, draft)
    draft.replace(out)
    return Predicted(out, version.number, table.num_rows, time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class _Answers:
    """Answers the rows of one block, in a Ray Data task; loading a Bundle takes a millisecond."""

    bundle: str

    def __call__(self, block: pa.Table) -> pa.Table:
        import pyarrow as pa

        from rayline.registry.bundle import Bundle

        found = Bundle.load(self.bundle).predictor().predict_table(block).records()
        answers = pa.Table.from_pylist(found)
        for name in answers.column_names:
            block = block.append_column(name, answers.column(name))
        return block
