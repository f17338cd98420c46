"""From the rows of a request to its finished answer, whatever protocol it came in: limits, the shared pass, the books.

``Answering.answered`` is the one door for every protocol; ``Finished`` is all that is known of an answered request, and
``_finish`` the one place where it is known: counters are told there, and whoever keeps answers hears of them there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rayline.errors import EnvironmentFailed, Overloaded, RowError
from rayline.serving.records.feedback import Answers
from rayline.serving.versions.batching import Batcher, Rows, Waiting
from rayline.serving.versions.served import Served

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions

SLOW_THREADS = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What one replica takes on.

    Attributes:
        max_ongoing, max_queued: together, the requests that may be under way; more are refused.
        timeout: seconds after which a request is refused that is not answered yet.
        max_rows: of one request.
        max_body: of one request, in bytes.
        batching: requests share passes, of at most ``batch_rows`` rows.
    """

    max_ongoing: int = 512
    max_queued: int = 1024
    timeout: float = 30.0
    max_rows: int = 10_000
    max_body: int = 64 * 1024 * 1024
    batching: bool = True
    batch_rows: int = 1024

    @property
    def under_way(self) -> int:
        """How many requests may be under way."""
        return self.max_ongoing + self.max_queued


@dataclass(frozen=True, slots=True)
class Finished:
    """An answered request.

    Attributes:
        request_id: as its answer gives it.
        session: the key of a sticky choice, or None.
        served: the version that answered.
        rows: as they were sent.
        predictions: one answer per row.
        outcomes: the bare answers: labels or numbers.
        seconds: from its arrival in the replica on.
    """

    request_id: str
    session: str | None
    served: Served
    rows: Rows
    predictions: Predictions
    outcomes: list[Any]
    seconds: float


Result = Finished | Exception
Listener = Callable[[Finished], None]


class Answering:
    """Answers the requests of one replica. All its methods are for the event loop."""

    def __init__(self, service: str, answers: Answers, limits: Limits) -> None:
        self._service = service
        self._answers = answers
        self.limits = limits
        self._threads = ThreadPoolExecutor(SLOW_THREADS, thread_name_prefix="rayline-slow")
        self._batcher = Batcher(self._threads, max_rows=limits.batch_rows, enabled=limits.batching)
        self._under_way = 0
        self.listeners: list[Listener] = []
        """Hear of each answered request, on the event loop: they must be quick and may not raise."""

    @property
    def under_way(self) -> int:
        """How many requests have come and are not answered yet."""
        return self._under_way

    async def answered(
        self, served: Served, rows: Rows | Callable[[], Rows], began: float, session: str | None = None
    ) -> Result:
        """Answer a request's rows by a version, together with whatever else waits for it.

        Args:
            served: the chosen version.
            rows: decoded; or, where decoding is slow, what decodes them, which runs on a thread.
            began: when the request came, of ``time.perf_counter``.
            session: the key of its sticky choice.

        Returns:
            What is known of it once answered, its counters told; else ``RowError`` (its own fault), ``Overloaded``,
            ``EnvironmentFailed`` (a store's), or any other exception: the version failed, and that is counted.
        """
        refused = self.refused()
        if refused is not None:
            return refused
        self._under_way += 1
        try:
            if callable(rows):
                rows = await asyncio.get_running_loop().run_in_executor(self._threads, rows)
            outcome = await self._batcher.predictions(served, rows, began + self.limits.timeout)
        except RowError as error:
            return error
        finally:
            self._under_way -= 1
        return self._finish(served, rows, outcome, began, session)

    def ask(
        self, served: Served, rows: Rows, began: float, session: str | None, tell: Callable[[Result], None]
    ) -> Waiting:
        """Do what ``answered`` does, and ``tell`` the result in a later turn of the loop; see ``refused`` first.

        Returns:
            What waits, for ``forget``.
        """

        def done(outcome: Predictions | Exception) -> None:
            self._under_way -= 1
            tell(self._finish(served, rows, outcome, began, session))

        self._under_way += 1
        waiting = Waiting(rows, done, began + self.limits.timeout)
        self._batcher.submit(served, waiting)
        return waiting

    def forget(self, waiting: Waiting) -> None:
        """Let go of what waits: its client is gone, and it is computed only where its pass has begun."""
        if not waiting.gone:
            waiting.gone = True
            self._under_way -= 1

    def refused(self) -> Overloaded | None:
        """Tell why one more request cannot be taken; None where it can."""
        if self._under_way < self.limits.under_way:
            return None
        return Overloaded(f"this replica of '{self._service}' has {self._under_way} requests under way; try again.")

    def _finish(
        self, served: Served, rows: Rows, outcome: Predictions | Exception, began: float, session: str | None
    ) -> Result:
        seconds = perf_counter() - began
        if isinstance(outcome, Exception):
            version_at_fault = isinstance(outcome, Overloaded) or not isinstance(outcome, RowError | EnvironmentFailed)
            if version_at_fault:  # one that answers too late has failed too
                served.counters.failed(seconds)
            return outcome
        number = served.live.number
        request_id = self._answers.new_id(number)
        outcomes = outcome.outcomes
        self._answers.remember(request_id, number, outcomes)
        served.counters.answered(seconds, outcomes, labelled=served.labelled)
        finished = Finished(request_id, session, served, rows, outcome, outcomes, seconds)
        for listener in self.listeners:
            listener(finished)
        return finished
