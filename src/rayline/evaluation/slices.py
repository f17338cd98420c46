"""Slices: the rows of a table that share a value, or lie in a bin, of one column or of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rayline.config import EvaluateConfig, SliceConfig
from rayline.errors import ConfigError, suggestion
from rayline.evaluation.levels import Levels, levels_of

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LEVELS = 50
"""So many values of a named column become slices, those with the most rows."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a table.

    Attributes:
        name: for people: ``season = winter``, ``temp in [3, 8)``, or two of these joined by `` & ``.
        column: which column decided, two joined by `` & ``.
        rows: int64, their indices in the table, rising.
    """

    name: str
    column: str
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


def named_slices(table: pa.Table, config: EvaluateConfig) -> tuple[Slice, ...]:
    """Return the slices that a configuration names: columns in its order, then values or bins in theirs.

    Slices of fewer than ``min_slice_rows`` rows are left out, and of a column of many values those with few rows:
    ``MOST_LEVELS`` of them stay.

    Args:
        table: raw rows; a column may be one that is no input.
        config: names the columns.

    Raises:
        ConfigError: the table has no such column, or one that cannot be divided so.
    """
    return tuple(each for named in config.slices for each in _slices(table, named, config.min_slice_rows))


def _slices(table: pa.Table, named: SliceConfig, least: int) -> list[Slice]:
    column = named.column
    if column not in table.column_names:
        raise ConfigError(
            f"evaluate.slices: column '{column}' is not in the test part. {suggestion(column, table.column_names)}"
        )
    levels = levels_of(table.column(column), column, named.bins)
    if levels is None:
        raise ConfigError(
            f"evaluate.slices: column '{column}' is of type {table.schema.field(column).type}, which has no values to"
            " slice by. Name a column of texts, numbers, times or booleans."
        )
    return [Slice(levels.texts[code], column, levels.rows(code)) for code in kept(levels, least, MOST_LEVELS)]


def kept(levels: Levels, least: int, most: int) -> list[int]:
    """Return the levels with at least ``least`` rows, and of these the ``most`` with the most rows, in their order."""
    counts = levels.counts
    enough = [code for code in range(len(counts)) if counts[code] >= least]
    return sorted(sorted(enough, key=lambda code: (-int(counts[code]), code))[:most])
