"""What of a table goes to the online store: the latest row of each key, and the latest rows that windows look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.features.joins.join import taken
from rayline.features.joins.keys import is_text, key_arrays, key_codes, time_array
from rayline.features.joins.tables import JoinSpec
from rayline.features.joins.windows import WindowGroup, number_reader
from rayline.features.online.seam import Key, Value

if TYPE_CHECKING:
    import pyarrow as pa

TIME, WHOLE = "__rayline_time__", "__rayline_whole__"


@dataclass(frozen=True, slots=True)
class Latest:
    """Rows as ``OnlineStore.put`` takes them, and how many were looked at."""

    columns: tuple[str, ...]
    keys: list[Key]
    times: list[int]
    rows: list[list[Value]]
    seen: int


@dataclass(frozen=True, slots=True)
class LatestRows:
    """Finds the latest row of each key of a feature table; of one time the last. Travels to workers."""

    spec: JoinSpec

    def __call__(self, table: pa.Table) -> Latest:
        """Look at some rows. Raises ``DataError`` or ``RowError`` for a key or a time that cannot be read."""
        import pyarrow as pa

        what = f"feature table '{self.spec.name}'"
        columns = taken(table.column_names, self.spec)
        codes = key_codes(table, self.spec.keys, what)
        times, known = time_array(table, self.spec.time, what)
        kept = np.flatnonzero(known & (codes >= 0))
        order = kept[np.lexsort((times[kept], codes[kept]))]
        last = order[_ends(codes[order])]
        chosen = table.take(pa.array(last))
        rows = zip(*(plain_values(chosen.column(name)) for name in columns), strict=True)
        return Latest(
            columns,
            keys_of(chosen, self.spec.keys, what),
            times[last].tolist(),
            [list(row) for row in rows],
            len(table),
        )


@dataclass(frozen=True, slots=True)
class Tails:
    """Finds the latest rows of each key that the windows of a group may still look at. Travels to workers.

    The tails of tails are the tails of all: blocks can be looked at one by one, then their results together.
    """

    group: WindowGroup

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the tails of some rows: keys, time in microseconds, what is looked at, and whether nothing was cut.

        Raises:
            DataError, RowError: a key, a time or a value cannot be read.
        """
        import pyarrow as pa

        group, what = self.group, "the data"
        codes = key_codes(table, group.by, what)
        whole = table.column(WHOLE).to_numpy(zero_copy_only=False) if WHOLE in table.column_names else None
        times, known = self._times(table)
        kept = np.flatnonzero(known & (codes >= 0))
        order = kept[np.lexsort((times[kept], codes[kept]))]
        codes, times = codes[order], times[order]
        first = _starts(codes)
        needed = self._needed(codes, times, first)
        alive = np.arange(len(order)) >= needed
        uncut = np.ones(len(order), dtype=np.bool_) if whole is None else whole[order]
        # A key is whole where none of its rows was cut, now or before.
        whole_now = np.logical_and.reduceat(uncut & alive, np.unique(first)) if len(order) else uncut
        groups = np.cumsum(first == np.arange(len(order))) - 1
        chosen = pa.array(order[alive])
        columns: dict[str, Any] = dict(
            zip(group.by, (each.take(chosen) for each in self._keys(table, what)), strict=True)
        )
        columns[TIME] = pa.array(times[alive])
        for name in group.sources:
            columns[f"of:{name}"] = self._numbers(table, name).take(chosen)
        columns[WHOLE] = pa.array(whole_now[groups[alive]] if len(order) else uncut)
        return pa.table(columns)

    def state(self, tails: pa.Table) -> Latest:
        """Return the tails as the rows of the online store: lists of times and values, and whether they are all."""
        columns = ("times", *self.group.sources, "whole")
        codes = key_codes(tails, self.group.by, "the data")
        times = tails.column(TIME).to_numpy(zero_copy_only=False)
        order = np.lexsort((times, codes))
        ends = _ends(codes[order]) + 1
        begins = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        lists = [times[order].tolist()]
        lists += [
            np.array(plain_values(tails.column(f"of:{each}")), dtype=object)[order].tolist()
            for each in self.group.sources
        ]
        whole = tails.column(WHOLE).to_numpy(zero_copy_only=False)[order]
        rows: list[list[Value]] = [
            [*(each[begin:end] for each in lists), bool(whole[begin])] for begin, end in zip(begins, ends, strict=True)
        ]
        import pyarrow as pa

        keys = keys_of(tails.take(pa.array(order[ends - 1])), self.group.by, "the data")
        return Latest(columns, keys, times[order][ends - 1].tolist(), rows, len(tails))

    def _needed(
        self, codes: NDArray[np.int64], times: NDArray[np.int64], first: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return for each sorted row where the tail of its key begins."""
        if not len(codes):
            return first
        ends = _ends(codes)
        last = ends[np.searchsorted(ends, np.arange(len(codes)))]
        instant = times[last]
        rows = max((each.lag or each.rows or 0 for each in self.group.windows), default=0)
        span = max((each.window or 0 for each in self.group.windows), default=0)
        in_span = np.flatnonzero(times >= instant - span)
        oldest = np.full(len(codes), len(codes))
        np.minimum.at(oldest, first[in_span], in_span)
        of_instant = np.full(len(codes), len(codes))
        now = np.flatnonzero(times == instant)
        np.minimum.at(of_instant, first[now], now)
        begins: NDArray[np.int64] = np.maximum(first, np.minimum(oldest[first], of_instant[first] - rows))
        return begins

    def _keys(self, table: pa.Table, what: str) -> list[Any]:
        texts = [is_text(table.schema.field(name).type) for name in self.group.by]
        return key_arrays(table, self.group.by, texts, what)

    def _times(self, table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if TIME in table.column_names:
            times = table.column(TIME).to_numpy(zero_copy_only=False)
            return times, np.ones(len(times), dtype=np.bool_)
        return time_array(table, self.group.time, "the data")

    def _numbers(self, table: pa.Table, name: str) -> Any:
        import pyarrow as pa

        if f"of:{name}" in table.column_names:
            return table.column(f"of:{name}")
        values = number_reader(table.column(name), name)
        return pa.array(values.data, mask=values.missing)


def keys_of(table: pa.Table, keys: Sequence[str], what: str) -> list[Key]:
    """Return the key of each row in its canonical form. Raises ``DataError``."""
    texts = [is_text(table.schema.field(name).type) for name in keys]
    return list(zip(*(each.to_pylist() for each in key_arrays(table, keys, texts, what)), strict=True))


def plain_values(array: Any) -> list[Value]:
    """Return a column as a JSON request would hold it: dates and times as ISO 8601 texts, NaN as None."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_floating(kind):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, kind), array)
    values: list[Value] = array.to_pylist()
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        return [_plain(value) for value in values]
    return values


def _plain(value: Any) -> Value:
    if isinstance(value, date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _ends(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the last place of each stretch of equal codes."""
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    return np.append(np.flatnonzero(codes[1:] != codes[:-1]), len(codes) - 1)


def _starts(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each place the first one of its stretch of equal codes."""
    new = np.ones(len(codes), dtype=np.bool_)
    new[1:] = codes[1:] != codes[:-1]
    starts: NDArray[np.int64] = np.maximum.accumulate(np.where(new, np.arange(len(codes)), 0))
    return starts
