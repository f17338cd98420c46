"""Which part each row belongs to: train, valid or test. Decided row by row, whatever the blocks and their order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import SplitConfig
from rayline.errors import ConfigError, DataError, suggestion
from rayline.features import arrow_values
from rayline.features.hashing import mix, row_hashes

if TYPE_CHECKING:
    import pyarrow as pa

Part = NDArray[np.int8]

PARTS = ("train", "valid", "test")
POSITION = "__rayline_position__"  # row number in the source, where the split follows the order of the file
SALT = np.uint64(0x52AE1F7C0D93B645)  # the split must not share bits with other uses of the row hash


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """The split as plain values that travel to workers.

    Attributes:
        by: ``hash`` or ``time``.
        columns: what is hashed (none: the whole row), or the one column that gives the time.
        train, valid: for ``hash``, the upper bounds of the parts as shares of the hash range; for ``time``, the last
            instant or position of each part.
    """

    by: str
    columns: tuple[str, ...]
    train: float
    valid: float

    def parts(self, table: pa.Table) -> Part:
        """Return int8 (n,): 0 train, 1 valid, 2 test. Raises ``DataError`` for a row without a time."""
        if self.by == "hash":
            kept = self.columns or tuple(name for name in table.column_names if name != POSITION)
            place = (mix(row_hashes(table, kept) ^ SALT) >> np.uint64(11)).astype(np.float64) / 2.0**53
            return (place >= self.train).astype(np.int8) + (place >= self.valid).astype(np.int8)
        times = read_times(table.column(self.columns[0]), self.columns[0])
        return (times > self.train).astype(np.int8) + (times > self.valid).astype(np.int8)


def plan_split(split: SplitConfig, names: tuple[str, ...], times: Callable[[str], NDArray[np.float64]]) -> SplitPlan:
    """Return the plan of a configured split.

    Args:
        names: the columns of the table.
        times: gives all values of a named column as numbers (``POSITION`` is the row number); called for ``time`` only.

    Raises:
        ConfigError: the key or time column does not exist.
        DataError: ties in time, or too few rows, leave a part without rows.
    """
    named = split.key or split.column
    if named is not None and named not in names:
        key = "key" if split.key else "column"
        raise ConfigError(f"data.split.{key} names '{named}', which the data does not have. {suggestion(named, names)}")
    train = 1.0 - split.valid - split.test
    if split.by == "hash":
        return SplitPlan("hash", (split.key,) if split.key else (), train, 1.0 - split.test)
    column = split.column or POSITION
    ordered = np.sort(times(column))
    if len(ordered) < 3:
        raise DataError(f"the data has {len(ordered)} rows: too few for a train, a valid and a test part.")
    ends = [ordered[max(math.ceil(len(ordered) * share) - 1, 0)] for share in (train, 1.0 - split.test)]
    if not ends[0] < ends[1] < ordered[-1]:
        raise DataError(
            f"data.split.column '{column}' has too few different times: rows of one time stay together, and that "
            "leaves a part without rows. Split by another column or by hash."
        )
    return SplitPlan("time", (column,), float(ends[0]), float(ends[1]))


def read_times(array: Any, name: str) -> NDArray[np.float64]:
    """Return a column as numbers that grow with time. Raises ``DataError`` where a row has none."""
    import pyarrow as pa

    kind = array.type
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    values = arrow_values.numbers(array) if plain else arrow_values.instants(array)
    bad = values.missing | values.wrong
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"data.split.column '{name}': {int(bad.sum())} rows have no usable time, the first is row {row} with "
            f"{array[row].as_py()!r}. Fill them, or split by another column."
        )
    return values.data.astype(np.float64)
