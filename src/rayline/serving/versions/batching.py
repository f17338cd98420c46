"""Requests that wait together share one forward pass, each version's apart.

What is decoded in one turn of the event loop, or while a pass is under way, goes into the next pass: one matrix, one
product, the answers split back. Size and wait are thus set by the load alone: at the end of its turn a lone request is
answered at once, and the longer a pass takes the more requests the next one holds.

What is quick is computed on the event loop, as a thread costs more than a small pass; what is slow, by what the version
was measured to take, goes to a thread, so that one slow version does not hold up the answers of another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from rayline.errors import Overloaded

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions

INLINE_SECONDS = 0.003
SLOW_PASSES = 1
"""Passes of one slow version at a time: the requests that come meanwhile share the next."""

Rows = Sequence[Mapping[str, Any]]
Done = Callable[["Predictions | Exception"], None]


class Version(Protocol):
    """What a batcher asks of a version: see ``Served``."""

    @property
    def remote(self) -> Callable[[list[Rows]], Awaitable[list[Predictions | Exception]]] | None: ...

    def seconds(self, rows: int) -> float: ...

    def predict_many(self, requests: list[Rows]) -> list[Predictions | Exception]: ...


class Waiting:
    """One request that waits for its answer.

    Attributes:
        rows: its rows, decoded.
        done: takes its answer, on the event loop.
        deadline: of ``time.perf_counter``; it hears ``Overloaded`` where it has no answer by then.
        gone: nobody waits for the answer any more, so that it need not be computed.
    """

    __slots__ = ("deadline", "done", "gone", "rows", "timer")

    def __init__(self, rows: Rows, done: Done, deadline: float = float("inf")) -> None:
        self.rows = rows
        self.done = done
        self.deadline = deadline
        self.gone = False
        self.timer: asyncio.TimerHandle | None = None

    def tell(self, outcome: Predictions | Exception) -> None:
        """Give the answer, once."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.gone:
            self.gone = True
            self.done(outcome)

    def watch(self) -> None:
        """Keep the deadline by the clock, as a pass that is slow cannot."""
        if self.timer is None:
            late = Overloaded("no answer was there in the time that a request may take; try again.")
            left = max(0.0, self.deadline - perf_counter())
            self.timer = asyncio.get_running_loop().call_later(left, self.tell, late)


class _Lane:
    """The requests that wait for one version."""

    __slots__ = ("passes", "planned", "queue", "version")

    def __init__(self, version: Version) -> None:
        self.version = version
        self.queue: deque[Waiting] = deque()
        self.planned = False
        self.passes = 0


class Batcher:
    """Shares passes among the requests of one replica. All its methods are for the event loop."""

    def __init__(self, threads: Executor, *, max_rows: int = 1024, enabled: bool = True) -> None:
        """Compute what is slow in ``threads``.

        Args:
            threads: for slow passes.
            max_rows: that one pass may hold, where it holds more than one request.
            enabled: share passes; else each request has one of its own.
        """
        self._threads = threads
        self._max_rows = max_rows if enabled else 0
        self._lanes: dict[int, _Lane] = {}

    async def predictions(
        self, version: Version, rows: Rows, deadline: float = float("inf")
    ) -> Predictions | Exception:
        """Return a version's answer to some rows, or what went wrong."""
        future: asyncio.Future[Predictions | Exception] = asyncio.get_running_loop().create_future()

        def done(outcome: Predictions | Exception) -> None:
            if not future.done():
                future.set_result(outcome)

        waiting = Waiting(rows, done, deadline)
        self.submit(version, waiting)
        try:
            return await future
        except asyncio.CancelledError:
            waiting.gone = True
            raise

    def submit(self, version: Version, waiting: Waiting) -> None:
        """Take a request; its answer comes by ``waiting.done`` in a later turn of the loop."""
        lane = self._lanes.get(id(version))
        if lane is None:
            lane = self._lanes[id(version)] = _Lane(version)
        lane.queue.append(waiting)
        if lane.passes:
            waiting.watch()
        elif not lane.planned:
            lane.planned = True
            asyncio.get_running_loop().call_soon(self._flush, lane)

    def _flush(self, lane: _Lane) -> None:
        lane.planned = False
        batch = self._next(lane)
        if not batch:
            self._rest(lane)
            return
        version, requests = lane.version, [each.rows for each in batch]
        if version.remote is not None:
            self._start(lane, batch, asyncio.ensure_future(version.remote(requests)))
        elif version.seconds(sum(map(len, requests))) > INLINE_SECONDS:
            loop = asyncio.get_running_loop()
            self._start(lane, batch, loop.run_in_executor(self._threads, version.predict_many, requests))
        else:
            try:
                outcomes = version.predict_many(requests)
            except Exception as error:  # noqa: BLE001 - whatever it is, the requests must hear of it
                outcomes = [error] * len(batch)
            _tell(batch, outcomes)
        self._rest(lane)

    def _start(self, lane: _Lane, batch: list[Waiting], task: asyncio.Future[Any]) -> None:
        lane.passes += 1
        task.add_done_callback(partial(self._passed, lane, batch))
        for waiting in (*batch, *lane.queue):
            waiting.watch()

    def _next(self, lane: _Lane) -> list[Waiting]:
        """Take the requests of the next pass: in order, as many as may share one."""
        batch: list[Waiting] = []
        rows = 0
        queue, seconds = lane.queue, lane.version.seconds
        quick = bool(queue) and lane.version.remote is None and seconds(len(queue[0].rows)) <= INLINE_SECONDS
        while queue:
            first = queue[0]
            if first.gone:
                queue.popleft()
                continue
            rows += len(first.rows)
            if batch and (rows > self._max_rows or (quick and seconds(rows) > INLINE_SECONDS)):
                break
            batch.append(queue.popleft())
        return batch

    def _passed(self, lane: _Lane, batch: list[Waiting], task: asyncio.Future[Any]) -> None:
        lane.passes -= 1
        error = task.exception() if not task.cancelled() else asyncio.CancelledError()
        if error is None:
            _tell(batch, task.result())
        else:
            failed = error if isinstance(error, Exception) else Overloaded("the pass was given up; try again.")
            _tell(batch, [failed] * len(batch))
        self._rest(lane)

    def _rest(self, lane: _Lane) -> None:
        """Plan the next pass, or forget the lane: a version that is dropped must not be held here."""
        if lane.planned or lane.passes >= SLOW_PASSES:
            return
        if lane.queue:
            lane.planned = True
            asyncio.get_running_loop().call_soon(self._flush, lane)
        elif not lane.passes:
            self._lanes.pop(id(lane.version), None)


def _tell(batch: list[Waiting], outcomes: Sequence[Predictions | Exception]) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        waiting.tell(outcome)
