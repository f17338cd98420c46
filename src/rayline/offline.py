"""Prediction of a whole file on Ray Data, by the same Bundle that serves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rayline.config import DataConfig
from rayline.errors import DataError, NotFoundError, UsageError
from rayline.project import Project

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_BLOCK = 50_000
ANSWERS = {
    "regression": ("prediction",),
    "binary": ("label", "probabilities"),
    "multiclass": ("label", "probabilities"),
}
"""The columns that are added to the rows, by task."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """A file of predictions: where it is, by which version, how many rows, in how many seconds."""

    path: Path
    version: int
    rows: int
    seconds: float


def predict_file(project: Project, selector: str | None, rows: Path, out: Path) -> Predicted:
    """Predict each row of a file and write rows and answers together as one Parquet file.

    Columns of joined feature tables that the file leaves out are joined as of each row's time.

    Raises:
        DataError: the file cannot be read, lacks a column that the Bundle needs, or has one named like an answer.
        NotFoundError: there is no such version, or no folder for the answers.
        UsageError: ``out`` is a folder.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from rayline.features.blocks import fold, in_blocks
    from rayline.features.joins.history import completed_table
    from rayline.features.sources import read_table
    from rayline.registry.bundle import Bundle

    _refuse_unwritable(out)
    began = time.perf_counter()
    table = read_table(DataConfig(source=str(rows.resolve())))
    version = project.store.version(project.config.name, selector)
    bundle = project.store.fetch(version, project.storage / "served")
    loaded = Bundle.load(bundle)
    table = completed_table(project.config.features, table, loaded.features.input_columns)
    _refuse_twins(table.column_names, ANSWERS[loaded.task], rows)
    project.connect()
    answers = pa.concat_tables(fold(in_blocks(table, ROWS_PER_BLOCK), _Answers(str(bundle.resolve()))))
    draft = out.with_name(f"{out.name}.{os.getpid()}.draft")
    parquet.write_table(answers, draft)
    draft.replace(out)
    return Predicted(out, version.number, table.num_rows, time.perf_counter() - began)


def _refuse_unwritable(out: Path) -> None:
    if out.is_dir():
        raise UsageError(f"'{out}' is a folder: name a Parquet file in it for the answers (--out).")
    if not out.parent.is_dir():
        raise NotFoundError(
            f"'{out}' cannot be written: folder '{out.parent}' does not exist. Make it, or change --out."
        )


def _refuse_twins(columns: Iterable[str], answers: tuple[str, ...], rows: Path) -> None:
    taken = [name for name in columns if name in answers]
    if taken:
        raise DataError(
            f"file '{rows}' has a column '{taken[0]}' already, which is what an answer's column is called. "
            "Rename it or leave it out, then predict again."
        )


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
