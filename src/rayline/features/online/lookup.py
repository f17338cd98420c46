"""Completes the rows of a request: columns that it leaves out are looked up by key, as a join would have found them.

What a request gives wins, even a null. A key that the store does not have, or not any more at that time, gives nulls.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Lock
from typing import Any

from rayline.errors import RowError
from rayline.features.joins.keys import KEY_RULE, TIME_RULE, key_text, moment
from rayline.features.joins.windows import WindowSpec
from rayline.features.online.declared import HistoryNeed, TableNeed, WindowNeed
from rayline.features.online.seam import Found, OnlineStore

Row = Mapping[str, Any]
Complete = dict[str, Any]


class Lookup:
    """The look-ups of one model. Safe to call from several threads."""

    def __init__(
        self,
        need: HistoryNeed,
        inputs: Collection[str],
        open_: Callable[[], OnlineStore],
        now: Callable[[], float] = time.time,
    ) -> None:
        """Look up in the store that ``open_`` gives; it is opened at the first need, so it may come later.

        Args:
            need: what the model looks up.
            inputs: its raw input columns.
            open_: opens the store; called again after it failed.
            now: seconds since 1970, the time of a row that names none.
        """
        needs: tuple[TableNeed | WindowNeed, ...] = (*need.tables, *need.windows)
        self._needs = tuple((each, _columns(each)) for each in needs)
        places = {column for each in needs for column in (*each.keys, each.at)}
        self._places = places.difference(inputs)  # taken off again, since they are no inputs
        self._open = open_
        self._store: OnlineStore | None = None
        self._opening = Lock()
        self._now = now

    def completed(self, rows: Sequence[Row]) -> list[Complete]:
        """Return the rows with every column that can be looked up, each store table asked once.

        Raises:
            RowError: a row lacks a column and the key to look it up, or its key or time cannot be read.
            EnvironmentFailed: the store cannot be used, or does not exist.
        """
        now = round(self._now() * 1e6)
        done: list[Complete] = [dict(row) for row in rows]
        for need, columns in self._needs:
            poor = [place for place, row in enumerate(rows) if any(column not in row for column in columns)]
            if poor:
                self._complete(need, columns, rows, done, poor, now)
        for row in done:
            for column in self._places:
                row.pop(column, None)
        return done

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            self._store.close()

    def _complete(
        self,
        need: TableNeed | WindowNeed,
        columns: tuple[str, ...],
        rows: Sequence[Row],
        done: list[Complete],
        poor: list[int],
        now: int,
    ) -> None:
        keys = [_key(need, place, rows[place], columns) for place in poor]
        times = [_time(need.at, place, rows[place], now) for place in poor]
        found = self._opened().get(need.table, keys)
        for place, at, each in zip(poor, times, found, strict=True):
            values = _as_of(need, each, at)
            done[place] = {**values, **done[place]}

    def _opened(self) -> OnlineStore:
        store = self._store
        if store is None:
            with self._opening:
                store = self._store = self._store or self._open()
        return store


def _columns(need: TableNeed | WindowNeed) -> tuple[str, ...]:
    return tuple(need.columns) if isinstance(need, TableNeed) else tuple(each.name for each in need.windows)


def _key(need: TableNeed | WindowNeed, place: int, row: Row, columns: tuple[str, ...]) -> tuple[Any, ...]:
    for name in need.keys:
        if name not in row:
            absent = next(column for column in columns if column not in row)
            rule = (
                f"found, and neither is '{name}', which it would be looked up by: send one of them, null where unknown"
            )
            raise RowError(place, absent, None, rule)
        try:
            key_text(row[name])
        except ValueError as error:
            raise RowError(place, name, row[name], KEY_RULE) from error
    return tuple(row[name] for name in need.keys)


def _time(at: str, place: int, row: Row, now: int) -> int:
    try:
        given = moment(row.get(at))
    except ValueError as error:
        raise RowError(place, at, row[at], TIME_RULE) from error
    return now if given is None else given


def _as_of(need: TableNeed | WindowNeed, found: Found | None, at: int) -> Complete:
    if isinstance(need, WindowNeed):
        return {each.name: window_value(each, found, at) for each in need.windows}
    if found is None or found.time > at or (need.ttl is not None and found.time <= at - need.ttl):
        return dict.fromkeys(need.columns)
    return {column: found.values.get(name) for column, name in need.columns.items()}


def window_value(window: WindowSpec, found: Found | None, at: int) -> float | None:
    """Return a window over the kept rows strictly before ``at``; None where there is nothing, or too little was kept.

    It is what ``rayline.features.joins.windows`` gives a row of that time, as long as no other row has come since.
    """
    nothing = 0.0 if window.aggregate == "count" else None
    if found is None:
        return nothing
    times: list[int] = found.values["times"]  # type: ignore[assignment]
    end = bisect_left(times, at)
    wanted = window.lag or window.rows
    start = max(0, end - wanted) if wanted is not None else bisect_left(times, at - (window.window or 0), 0, end)
    cut = end < wanted if wanted is not None else start == 0 and at < found.time
    if cut and not found.values["whole"]:
        return None
    values: Any = found.values.get(window.of) if window.of is not None else [1.0] * len(times)
    if values is None:
        return nothing
    if window.lag is not None:
        return _number(values[end - window.lag]) if end >= window.lag else None
    return aggregate_of(str(window.aggregate), [float(each) for each in values[start:end] if each is not None])


def aggregate_of(name: str, values: list[float]) -> float | None:
    """Return an aggregate of a few numbers; None where there are none (for ``std``: fewer than two)."""
    if name == "count":
        return float(len(values))
    if not values or (name == "std" and len(values) < 2):
        return None
    if name in ("min", "max", "last"):
        return {"min": min(values), "max": max(values), "last": values[-1]}[name]
    total = math.fsum(values)
    if name == "sum":
        return total
    mean = total / len(values)
    if name == "mean":
        return mean
    return math.sqrt(math.fsum((each - mean) ** 2 for each in values) / (len(values) - 1))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
