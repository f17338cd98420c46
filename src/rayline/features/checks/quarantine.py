"""Rows that are set aside with the reason: they go to a Parquet folder, and the run goes on without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from rayline.features.checks.rules import Break

if TYPE_CHECKING:
    import pyarrow as pa

ROW, COLUMN, RULE, REASON = "_row", "_column", "_rule", "_reason"
FOLDER, FILE = "quarantine", "part-0.parquet"


def set_aside(table: pa.Table, broken: Mapping[str, list[Break]], rows: Any) -> pa.Table:
    """Return the rows to set aside, as they were, with what is wrong with each.

    Args:
        table: some rows of the source.
        broken: by column, the breaks whose policy is ``quarantine``.
        rows: bool (n,), any of them.

    Returns:
        ``_row`` (int64, from 0 in ``table``), ``_column``, ``_rule`` and ``_reason`` (texts; several are joined by
        ``; ``), then the columns of the table.
    """
    import pyarrow as pa

    numbers = np.flatnonzero(rows)
    told: dict[str, list[list[str]]] = {key: [[] for _ in numbers] for key in (COLUMN, RULE, REASON)}
    for column, breaks in broken.items():
        for each in breaks:
            for place in np.flatnonzero(each.rows[numbers]):
                told[COLUMN][place].append(column)
                told[RULE][place].append(each.rule)
                told[REASON][place].append(f"'{column}' {each.message}")
    texts = {key: pa.array(["; ".join(each) for each in lists], pa.string()) for key, lists in told.items()}
    kept = table.take(pa.array(numbers))
    columns = {name: kept.column(name) for name in table.column_names}
    return pa.table({ROW: pa.array(numbers, pa.int64()), **texts, **columns})


@dataclass
class QuarantineWriter:
    """Writes what blocks set aside into one file, with row numbers that count from the start of the source.

    The file appears with the first row that is set aside; without any there is no folder.
    """

    folder: Path
    rows: int = 0
    _before: int = 0
    _writer: Any = field(default=None, repr=False)

    def write(self, aside: pa.Table | None, block_rows: int) -> None:
        """Take what the next block of ``block_rows`` rows set aside; None is nothing."""
        import pyarrow.compute as pc
        from pyarrow import parquet

        if aside is not None and aside.num_rows:
            moved = aside.set_column(0, ROW, pc.add(aside.column(ROW), self._before))
            if self._writer is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._writer = parquet.ParquetWriter(self.folder / FILE, moved.schema)
            self._writer.write_table(moved.cast(self._writer.schema))
            self.rows += moved.num_rows
        self._before += block_rows

    def __enter__(self) -> QuarantineWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
