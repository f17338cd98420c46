"""``data``: where the table is and how its rows are divided."""

from __future__ import annotations

from typing import Literal

from rayline.config.section import Section, Share


class SplitConfig(Section, frozen=True, kw_only=True):
    """How rows are divided: by ``hash`` of the row's content or of ``key``, or by ``time``.

    ``time`` takes the earliest rows for training and the latest for the test, in the order of ``column``, or in the
    order of the file where no column is named.
    """

    by: Literal["hash", "time"] = "hash"
    key: str | None = None
    column: str | None = None
    valid: Share = 0.15
    test: Share = 0.15

    def __post_init__(self) -> None:
        if self.valid + self.test >= 1:
            raise ValueError(f"valid ({self.valid}) and test ({self.test}) leave nothing to train on")
        if self.by == "time" and self.key is not None:
            raise ValueError("'key' belongs to 'by: hash'")
        if self.by == "hash" and self.column is not None:
            raise ValueError("'column' belongs to 'by: time'")


class DataConfig(Section, frozen=True, kw_only=True):
    """Where the table is: a path, glob or URI of CSV, Parquet or JSON lines, or ``sklearn:NAME``."""

    source: str
    format: Literal["auto", "csv", "parquet", "jsonl"] = "auto"
    split: SplitConfig = SplitConfig()
