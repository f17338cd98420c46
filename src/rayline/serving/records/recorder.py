"""What happens to an answered request after its answer: counted by what was asked, captured, mirrored.

The hot path appends one tuple to a queue. A thread does the rest, many rows at a time, and gives way to the event loop:
see ``giving_way``. The queue is bounded, by what the thread does in about a second where that is less: requests that
find no room are answered and counted as ever, and how many rows are left out of the rest is counted too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from random import random
from time import thread_time, time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rayline.serving.host import Host
from rayline.serving.records.answered import Answered, Request, joined
from rayline.serving.records.feedback import Answers
from rayline.serving.records.giving_way import EventLoopLoad
from rayline.serving.records.yardstick import Ruler, Yardstick
from rayline.serving.versions.batching import Rows

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.serving.records.capture import Capture
    from rayline.serving.records.shadow import Shadow
    from rayline.serving.versions.answering import Finished
    from rayline.serving.versions.served import Served

EVERY_SECONDS = 0.1
PASS_ROWS = 256
MOST_QUEUED = 12_500
LEAST_QUEUED = 1_000

_LOG = logging.getLogger(__name__)


class Recorder:
    """Takes what one replica answered. ``answered`` is called by one thread, the event loop's."""

    def __init__(
        self,
        host: Host,
        answers: Answers,
        *,
        yardstick: Yardstick | None = None,
        slices: Sequence[str] = (),
        capture: Capture | None = None,
        shadow: Shadow | None = None,
        most_queued: int = MOST_QUEUED,
        load: EventLoopLoad | None = None,
    ) -> None:
        """Take over what is answered from now on; ``start`` begins the work.

        Args:
            host: the live versions.
            answers: remembers what was answered.
            yardstick: what input columns are counted by; without one they are not.
            slices: columns by whose levels or quartiles counts are kept apart.
            capture: writes requests down; None where that is off.
            shadow: asks the mirrored version; None where it is never asked.
            most_queued: rows that may wait here.
            load: how busy the event loop is; it is told which thread that is.

        Raises:
            ConfigError: a slice column is not on the yardstick.
        """
        self._host = host
        self._answers = answers
        self._yardstick = yardstick or Yardstick()
        self._slicers = self._yardstick.slicers(slices)
        self._capture = capture
        self._shadow = shadow
        self._most = most_queued
        self._queue: deque[Request] = deque()
        self._load = load or EventLoopLoad()
        self._room = most_queued
        self._taken = 0  # rows, by the hot path alone
        self._done = 0  # rows, under the lock
        self._left_out = 0
        self._missed = 0
        self._listening = False
        self._failures = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rayline-recorder", daemon=True)

    @property
    def slicers(self) -> tuple[Ruler, ...]:
        """What tells the slices of a row."""
        return self._slicers

    @property
    def left_out(self) -> int:
        """Rows that were answered, and neither counted by what was asked nor captured, as too many waited."""
        return self._left_out

    def start(self) -> None:
        """Begin to work in the background."""
        self._thread.start()

    def answered(self, finished: Finished) -> None:
        """Take an answered request, as a listener of ``Answering``; returns at once."""
        if not self._listening:
            self._listening = True
            self._load.watch()
            if self._shadow is not None:
                self._shadow.loop = asyncio.get_running_loop()
        count = len(finished.outcomes)  # a list: rows may be read by Python code
        if self._taken - self._done + count > self._room:
            self._left_out += count
            return
        self._taken += count
        self._queue.append((finished, time()))

    def settle(self) -> None:
        """Do now what waits."""
        with self._lock:
            while self._queue:
                self._pass()

    def stop(self) -> None:
        """Do what waits, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self.settle()

    def slices_of(self, request_id: str) -> list[tuple[str, ...]] | None:
        """Return the slices of each row of an answered request; None where they are not known."""
        if not self._slicers:
            return None
        codes = self._answers.placed(request_id)
        if codes is None and self._queue:
            self.settle()
            codes = self._answers.placed(request_id)
        if codes is None:
            return None
        return [self._names(row) for row in codes]

    def _names(self, codes: NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(slicer.labels[code] for slicer, code in zip(self._slicers, codes, strict=True) if code >= 0)

    def _run(self) -> None:
        rest = EVERY_SECONDS
        while not self._stop.wait(rest):
            rest = EVERY_SECONDS
            if self._queue:
                done, began = self._done, thread_time()
                with self._lock:
                    self._pass()
                rest = self._rest(self._done - done, thread_time() - began)
            elif self._room < self._most:
                self._room = self._most

    def _rest(self, rows: int, seconds: float) -> float:
        """Return how long to rest after so much work; make room for about as many rows as a second has time for."""
        share = self._load.share
        if rows and seconds > 0:
            self._room = int(min(self._most, max(LEAST_QUEUED, rows / seconds * share)))
        rest = seconds * (1 - share) / share
        return rest if self._taken - self._done >= PASS_ROWS else max(rest, EVERY_SECONDS)

    def _pass(self) -> None:
        """Work on about ``PASS_ROWS`` rows. Nothing that goes wrong here ends the thread."""
        rows, waiting = 0, []
        while self._queue and rows < PASS_ROWS:
            request = self._queue.popleft()
            rows += len(request[0].rows)
            waiting.append(request)
        by_version: dict[int, list[Request]] = {}
        for request in waiting:
            by_version.setdefault(id(request[0].served), []).append(request)
        for requests in by_version.values():
            try:
                self._record(requests)
            except Exception:  # noqa: BLE001 - a replica answers on, whatever becomes of its records
                self._left_out += sum(len(request[0].rows) for request in requests)
                self._failures += 1
                if self._failures == 1:
                    _LOG.exception("answered requests could not be recorded; more such failures are only counted.")
        self._done += rows
        if self._shadow is not None:
            missed, self._missed = self._left_out - self._missed, self._left_out
            self._shadow.missed(missed)

    def _record(self, requests: Sequence[Request]) -> None:
        answered = self._gathered(requests)
        served = answered.served
        served.counters.measured(self._feature_counts(answered), self._slice_counts(answered))
        if self._slicers:
            start = 0
            for request_id, size in zip(answered.ids, answered.sizes.tolist(), strict=True):
                self._answers.place(request_id, answered.slices[start : start + size])
                start += size
        if self._capture is not None:
            self._capture.take(answered)
        if self._shadow is not None:
            self._shadow.offer(answered, self._slicers)

    def _gathered(self, requests: Sequence[Request]) -> Answered:
        finished, at = zip(*requests, strict=True)
        served = finished[0].served
        plan = self._host.plan
        stable = plan is not None and plan.stable == served.live.number
        asked = tuple(each.rows for each in finished)
        table = _table(served, asked)
        sample = self._capture.sample if self._capture is not None else 0.0
        return Answered(
            served=served,
            arm="stable" if stable else "canary",
            ids=tuple(each.request_id for each in finished),
            keys=tuple(each.session for each in finished),
            seconds=tuple(each.seconds for each in finished),
            at=at,
            sizes=np.array([len(each.rows) for each in finished], dtype=np.int64),
            requests=asked,
            table=table,
            predictions=joined([each.predictions for each in finished]),
            slices=self._slice_codes(table, served),
            sampled=np.array([sample >= 1.0 or random() < sample for _ in finished], dtype=np.bool_),
        )

    def _slice_codes(self, table: pa.Table, served: Served) -> NDArray[np.int64]:
        """Return (n, slice columns) places; -1 where a version has no such column."""
        codes = np.full((table.num_rows, len(self._slicers)), -1, dtype=np.int64)
        for index, slicer in enumerate(self._slicers):
            if _fits(table, served, slicer):
                codes[:, index] = slicer.codes(table.column(slicer.column).chunk(0))
        return codes

    def _slice_counts(self, answered: Answered) -> dict[str, int]:
        counts: dict[str, int] = {}
        for index, slicer in enumerate(self._slicers):
            codes = answered.slices[:, index]
            counts |= _labelled(slicer, codes[codes >= 0])
        return counts

    def _feature_counts(self, answered: Answered) -> dict[str, dict[str, int]]:
        table, served = answered.table, answered.served
        return {
            name: _labelled(ruler, ruler.codes(table.column(name).chunk(0)))
            for name, ruler in self._yardstick.columns.items()
            if _fits(table, served, ruler)
        }


def _table(served: Served, requests: Sequence[Rows]) -> pa.Table:
    """Return the input columns of rows; of a version that looks columns up, those that all of them hold."""
    from rayline.serving.wire.row_table import row_table

    schema, names = served.bundle.features.schema, served.columns
    if served.lookup is not None:
        names = tuple(name for name in names if all(name in row for rows in requests for row in rows))
    return row_table(requests, [schema.column(name) for name in names])


def _fits(table: pa.Table, served: Served, ruler: Ruler) -> bool:
    """Tell whether rows hold a column, and the version reads it as the ruler does."""
    return ruler.column in table.column_names and served.bundle.features.schema.column(ruler.column).kind == ruler.kind


def _labelled(ruler: Ruler, codes: NDArray[np.int64]) -> dict[str, int]:
    counts = np.bincount(codes, minlength=len(ruler.labels))
    return {ruler.labels[place]: int(counts[place]) for place in np.flatnonzero(counts)}
