"""The mirrored version: asked what others were asked, after they have answered, and compared with them.

A share of the answered requests goes into a bounded queue; a thread of its own predicts many rows in one pass, counts
how far the answers differ and throws them away. Nothing of it is on a request's way, and the thread gives way to the
event loop: see ``giving_way``. Where the version is slow the queue fills, and what finds no room is counted as dropped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Sequence
from random import random
from time import perf_counter, thread_time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rayline.serving.host import Host
from rayline.serving.records.answered import Answered, taken
from rayline.serving.records.comparing import Compared, compared
from rayline.serving.records.giving_way import EventLoopLoad
from rayline.serving.records.observation import ShadowStats
from rayline.serving.traffic.plan import Mirror
from rayline.serving.traffic.router import drawn
from rayline.serving.versions.batching import Rows

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions
    from rayline.serving.records.capture import Capture
    from rayline.serving.records.yardstick import Ruler
    from rayline.serving.versions.served import Served

MOST_WAITING = 20_000
REMOTE_SECONDS = 30.0

_LOG = logging.getLogger(__name__)


class Shadow:
    """Asks the mirrored version of one replica's plan."""

    def __init__(
        self,
        host: Host,
        capture: Capture | None = None,
        most_waiting: int = MOST_WAITING,
        load: EventLoopLoad | None = None,
    ) -> None:
        """Follow the host's plan; ``start`` begins the work.

        Args:
            host: the live versions, and the plan that says which is mirrored.
            capture: gets the mirrored version's answers too.
            most_waiting: rows.
            load: how busy the event loop is.
        """
        self._load = load or EventLoopLoad()
        self._host = host
        self._capture = capture
        self._most = most_waiting
        self._queue: deque[tuple[Served, Answered, tuple[Ruler, ...]]] = deque()
        self._waiting = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        """The replica's event loop, on which a version in another process is asked."""
        self._lock = threading.Lock()
        self._working = threading.Lock()
        self._news = threading.Event()
        self._halt = threading.Event()
        self._stopped = False
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="rayline-shadow", daemon=True)

    def start(self) -> None:
        """Begin to work in the background."""
        self._thread.start()

    def offer(self, answered: Answered, slicers: tuple[Ruler, ...] = ()) -> None:
        """Take answered requests, and mirror a share of them; returns at once."""
        mirror, served = self._mirrored()
        if mirror is None or served is None or answered.served.live.number == mirror.number:
            return
        chosen = answered.picked(mirrored(mirror, answered.keys))
        if not len(chosen):
            return
        with self._lock:
            fits = self._waiting + len(chosen) <= self._most
            if fits:
                self._waiting += len(chosen)
                self._queue.append((served, chosen, slicers))
        if fits:
            self._news.set()
        else:
            served.counters.mirrored(ShadowStats(dropped=len(chosen)))

    def missed(self, rows: int) -> None:
        """Count answered rows that were never offered, for lack of room: the share of them that was to be mirrored."""
        mirror, served = self._mirrored()
        if rows and mirror is not None and served is not None:
            served.counters.mirrored(ShadowStats(dropped=round(rows * mirror.percent / 100)))

    def _mirrored(self) -> tuple[Mirror | None, Served | None]:
        plan = self._host.plan
        mirror = plan.mirror if plan is not None else None
        return mirror, self._host.table.versions.get(mirror.number) if mirror is not None else None

    def settle(self) -> None:
        """Do now what waits."""
        with self._working:
            while self._queue:
                self._next()

    def stop(self) -> None:
        """End after the pass under way; what waits is thrown away, and counted as dropped."""
        self._stopped = True
        self._halt.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        while self._queue:
            served, chosen, _ = self._queue.popleft()
            served.counters.mirrored(ShadowStats(dropped=len(chosen)))

    def _run(self) -> None:
        while not self._stopped:
            self._news.wait()
            self._news.clear()
            while self._queue and not self._stopped:
                began = thread_time()
                with self._working:
                    self._next()
                share = self._load.share
                self._halt.wait((thread_time() - began) * (1 - share) / share)

    def _next(self) -> None:
        try:
            served, asked, slicers = self._queue.popleft()
        except IndexError:
            return
        try:
            self._compare(served, asked, slicers)
        except Exception:  # noqa: BLE001 - a version at fault must not end the thread, nor the replica
            served.counters.mirrored(ShadowStats(errors=len(asked)))
            self._failures += 1
            if self._failures == 1:
                _LOG.exception("version %d could not be mirrored; more failures are only counted.", served.live.number)
        finally:
            with self._lock:
                self._waiting -= len(asked)

    def _compare(self, served: Served, asked: Answered, slicers: tuple[Ruler, ...]) -> None:
        began = perf_counter()
        said, usable = _said(served, asked, self.loop)
        seconds = perf_counter() - began
        errors = int(len(asked) - usable.sum())
        if said is None:
            served.counters.mirrored(ShadowStats(errors=errors, seconds=seconds))
            return
        rows = np.flatnonzero(usable)
        deviation = float(asked.served.bundle.features.target_std)
        found = compared(taken(asked.predictions, rows), taken(said, rows), deviation)
        if found is None:
            served.counters.mirrored(ShadowStats(errors=len(asked), seconds=seconds))
            return
        served.counters.mirrored(_counted(found, asked.slices[rows], slicers, errors, seconds))
        if self._capture is not None:
            self._capture.take_shadow(served, asked, said, usable)


def mirrored(mirror: Mirror, keys: Sequence[str | None]) -> NDArray[np.bool_]:
    """Return which requests are mirrored: by chance, or for a session by its key, so that all of it is or none."""
    share = mirror.percent / 100
    if share >= 1:
        return np.ones(len(keys), dtype=np.bool_)
    draws = [random() if key is None else drawn(key, mirror.number) for key in keys]
    return np.array(draws) < share


def _said(
    served: Served, asked: Answered, loop: asyncio.AbstractEventLoop | None
) -> tuple[Predictions | None, NDArray[np.bool_]]:
    """Return what a version says to rows, and which rows it answered with numbers: bool (n,); None where it has none.

    A version in this process gets the typed columns in one pass, which answers as the rows would be at a fraction of
    the time. Where that cannot be, or fails, it is asked request by request, so that one bad row spoils no other.
    """
    if served.remote is None and served.lookup is None:
        try:
            said = served.predictor.predict_table(asked.table)
        except Exception:  # noqa: BLE001 - whatever goes wrong with all of them may go right with some
            return _collected(served.predict_many(_requests(served, asked)), asked.sizes)
        return said, said.finite
    if served.remote is None or loop is None:
        return _collected(served.predict_many(_requests(served, asked)), asked.sizes)
    waiting = asyncio.run_coroutine_threadsafe(_awaited(served.remote(_requests(served, asked))), loop)
    try:
        return _collected(waiting.result(REMOTE_SECONDS), asked.sizes)
    finally:
        waiting.cancel()


async def _awaited(answer: Awaitable[list[Predictions | Exception]]) -> list[Predictions | Exception]:
    return await answer


def _requests(served: Served, asked: Answered) -> list[Rows]:
    """Return the rows of each request, with the columns that the version takes."""
    known = set(served.columns)
    return [[{name: value for name, value in row.items() if name in known} for row in rows] for rows in asked.requests]


def _collected(
    outcomes: Sequence[Predictions | Exception], sizes: NDArray[np.int64]
) -> tuple[Predictions | None, NDArray[np.bool_]]:
    """Put the answers to some requests together; the rows of one that failed are not usable."""
    usable = np.zeros(int(sizes.sum()), dtype=np.bool_)
    first = next((each for each in outcomes if not isinstance(each, Exception)), None)
    if first is None:
        return None, usable
    values = np.zeros(len(usable), dtype=first.values.dtype)
    wide = first.probabilities
    probabilities = None if wide is None else np.zeros((len(usable), wide.shape[1]), dtype=np.float32)
    start = 0
    for size, said in zip(sizes.tolist(), outcomes, strict=True):
        rows = slice(start, start + size)
        start += size
        if isinstance(said, Exception):
            continue
        usable[rows], values[rows] = said.finite, said.values
        if probabilities is not None:
            probabilities[rows] = said.probabilities
    return type(first)(values, probabilities, first.labels), usable


def _counted(
    found: Compared, slices: NDArray[np.int64], slicers: tuple[Ruler, ...], errors: int, seconds: float
) -> ShadowStats:
    differ = ~found.agreed
    by_slice: dict[str, tuple[int, int]] = {}
    for index, slicer in enumerate(slicers):
        known = slices[:, index] >= 0
        codes = slices[known, index]
        rows = np.bincount(codes, minlength=len(slicer.labels))
        disagreed = np.bincount(codes[differ[known]], minlength=len(slicer.labels))
        for place in np.flatnonzero(rows):
            by_slice[slicer.labels[place]] = (int(rows[place]), int(disagreed[place]))
    return ShadowStats(
        rows=len(found.agreed),
        agreed=int(found.agreed.sum()),
        distance=float(found.distance.sum()),
        squared_distance=float((found.distance**2).sum()),
        errors=errors,
        seconds=seconds,
        slices=by_slice,
    )
