"""Lags and rolling windows: numbers made of the strictly earlier rows with the same keys.

Rows of one instant do not see each other, and neither does a row itself: nothing that a row gets can depend on it or
on what came later, not even in its last bit. Rows without a key or a time get nothing, and nobody sees them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import WindowConfig
from rayline.config.history import microseconds
from rayline.errors import ConfigError, suggestion
from rayline.features.joins.keys import key_codes, time_array
from rayline.features.joins.rolling import aggregated
from rayline.features.reading import arrow_values
from rayline.features.reading.arrow_values import RULES, Values

if TYPE_CHECKING:
    import pyarrow as pa

Numbers = NDArray[np.float64]
Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """One derived column, as plain values that travel to workers; ``window`` is in microseconds."""

    name: str
    of: str | None
    lag: int | None
    rows: int | None
    window: int | None
    aggregate: str | None


@dataclass(frozen=True, slots=True)
class WindowGroup:
    """The windows over the same keys and time: they share one partitioning and one sort."""

    by: tuple[str, ...]
    time: str
    windows: tuple[WindowSpec, ...]

    @property
    def name(self) -> str:
        """What the group is called in the online store."""
        return f"windows/{'+'.join(self.by)}@{self.time}"

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns that the windows look at."""
        return tuple(dict.fromkeys(window.of for window in self.windows if window.of is not None))


def window_groups(windows: Mapping[str, WindowConfig]) -> tuple[WindowGroup, ...]:
    """Return the configured windows, those of the same keys and time together."""
    found: dict[tuple[tuple[str, ...], str], list[WindowSpec]] = {}
    for name, each in windows.items():
        span = microseconds(each.window) if each.window is not None else None
        spec = WindowSpec(name, each.of, each.lag, each.rows, span, each.aggregate)
        found.setdefault((each.by, each.time), []).append(spec)
    return tuple(WindowGroup(by, time, tuple(specs)) for (by, time), specs in found.items())


def with_windows(table: pa.Table, windows: Mapping[str, WindowConfig]) -> pa.Table:
    """Return a table, in its order, with a double column for each window.

    Raises:
        ConfigError: a window looks at a column that is not there, or is called like one that is.
        RowError: a value is no number, or no time.
    """
    made = []
    for group in window_groups(windows):
        refuse_unfit(table.column_names, group)
        made.append(window_columns(table, group))
    for columns in made:
        for name in columns.column_names:
            table = table.append_column(name, columns.column(name))
    return table


def refuse_unfit(names: Sequence[str], group: WindowGroup) -> None:
    """Raise ``ConfigError`` where the data lacks what a group of windows needs, or has one of its names."""
    for window in group.windows:
        needed = [*group.by, group.time, *([window.of] if window.of is not None else [])]
        absent = [name for name in needed if name not in names]
        if absent:
            near = suggestion(absent[0], names)
            raise ConfigError(
                f"features.windows.{window.name} needs '{absent[0]}', which the data does not have. {near}"
            )
        if window.name in names:
            raise ConfigError(
                f"features.windows.{window.name} is called like a column that the data has. Give it another name."
            )


def window_columns(rows: pa.Table, group: WindowGroup) -> pa.Table:
    """Return the columns of a group of windows alone, one row for each of ``rows``. Raises ``RowError``."""
    import pyarrow as pa

    history = History.of(rows, group)
    made = {window.name: pa.array(history.values(window), pa.float64(), from_pandas=True) for window in group.windows}
    return pa.table(made)


@dataclass(frozen=True, slots=True)
class History:
    """Rows sorted by key and time, those of one time in their order.

    Attributes:
        order: places of the sorted rows in the table; rows without a key or a time are left out.
        first: where the key of each sorted row begins, and ``before``: where its own instant does.
        columns: the columns that windows look at, sorted, NaN where missing.
    """

    total: int
    order: Positions
    first: Positions
    before: Positions
    times: NDArray[np.int64]
    columns: Mapping[str, Numbers]

    @classmethod
    def of(cls, rows: pa.Table, group: WindowGroup) -> History:
        """Sort a table. Raises ``RowError`` or ``DataError`` where a key, a time or a value cannot be read."""
        codes = key_codes(rows, group.by, "the data")
        times, known = time_array(rows, group.time, "the data")
        kept = np.flatnonzero(known & (codes >= 0))
        order = kept[np.lexsort((times[kept], codes[kept]))]
        codes, times = codes[order], times[order]
        new_key = np.ones(len(order), dtype=np.bool_)
        new_key[1:] = codes[1:] != codes[:-1]
        new_time = new_key.copy()
        new_time[1:] |= times[1:] != times[:-1]
        columns = {}
        for name in group.sources:
            values = number_reader(rows.column(name), name)
            columns[name] = np.where(values.missing, np.nan, values.data)[order]
        return cls(rows.num_rows, order, _begins(new_key), _begins(new_time), times, columns)

    def values(self, window: WindowSpec) -> Numbers:
        """Return a window's float64 (rows,), NaN where there is nothing to see."""
        out = np.full(self.total, np.nan)
        out[self.order] = self._sorted_values(window)
        return out

    def _sorted_values(self, window: WindowSpec) -> Numbers:
        values = self.columns[window.of] if window.of is not None else np.ones(len(self.order))
        if window.lag is not None:
            place = self.before - window.lag
            return np.where(place >= self.first, values[np.maximum(place, 0)], np.nan) if len(values) else values
        assert window.aggregate is not None
        return aggregated(window.aggregate, values, self._starts(window), self.before)

    def _starts(self, window: WindowSpec) -> Positions:
        if window.rows is not None:
            return np.maximum(self.first, self.before - window.rows)
        from rayline.features.joins.join import last_at_or_before

        assert window.window is not None
        oldest = self.times - window.window
        return last_at_or_before(self.times, self.first, self.before, oldest - 1) + 1


def _begins(new: NDArray[np.bool_]) -> Positions:
    """Return for each place the last one at or before it where something new begins."""
    begins: Positions = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
    return begins


def number_reader(array: Any, name: str) -> Values:
    """Return a column of numbers or booleans as float64. Raises ``RowError`` for the first value that is neither."""
    import pyarrow as pa

    read = arrow_values.truths if pa.types.is_boolean(array.type) else arrow_values.numbers
    return arrow_values.checked(read, array, name, RULES["numeric"])
