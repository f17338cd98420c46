"""Sticky clients that replay held-out rows as real HTTP requests, tell the truth afterwards and keep count."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

THREADS = 3
SESSIONS_PER_THREAD = 100
PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Answered:
    """What one version answered in one phase of the demo. Latencies in seconds, as a client saw them."""

    phase: str
    version: int
    requests: int
    share: float
    failures: int
    p50: float
    p95: float


@dataclass
class _Count:
    latencies: list[float] = field(default_factory=list)
    failures: int = 0


class Clients:
    """Threads that send requests until they are stopped.

    Each thread stands for several users: a user is a session id that comes back, so that the service keeps them on one
    version. A request that meets a closing connection is tried once more, as the client contract allows; an answer
    other than 200, or none, is a failure. Use as a context manager.

    Args:
        url: the service's address, without ``/predict``.
        rows: what to send: one row a request.
        truth: the true label of each row.
    """

    def __init__(self, url: str, rows: Sequence[Mapping[str, Any]], truth: Sequence[Any]) -> None:
        self.phase = "warm-up"
        self._url = url
        self._rows = rows
        self._truth = truth
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, int], _Count] = defaultdict(_Count)
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(THREADS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(timeout=30)

    @property
    def requests(self) -> int:
        """How many predictions were asked for so far."""
        with self._lock:
            return sum(len(count.latencies) + count.failures for count in self._counts.values())

    @property
    def failures(self) -> int:
        """How many of them failed."""
        with self._lock:
            return sum(count.failures for count in self._counts.values())

    def table(self) -> tuple[Answered, ...]:
        """Return one line for each phase and version, in the order in which they came."""
        with self._lock:
            counts = {key: (sorted(count.latencies), count.failures) for key, count in self._counts.items()}
        totals: dict[str, int] = defaultdict(int)
        for (phase, _), (latencies, failures) in counts.items():
            totals[phase] += len(latencies) + failures
        return tuple(
            Answered(
                phase,
                version,
                len(latencies) + failures,
                (len(latencies) + failures) / totals[phase],
                failures,
                _quantile(latencies, 0.5),
                _quantile(latencies, 0.95),
            )
            for (phase, version), (latencies, failures) in counts.items()
        )

    def _work(self, thread: int) -> None:
        sessions = [f"user-{thread}-{number}" for number in range(SESSIONS_PER_THREAD)]
        with httpx.Client(timeout=10) as client:
            for turn in itertools.count(thread):
                if self._ending.wait(PAUSE_S):
                    return
                row = turn % len(self._rows)
                answer = self._ask(client, row, sessions[turn % len(sessions)])
                if answer is not None:
                    truth = {"request_id": answer.headers["x-request-id"], "label": self._truth[row]}
                    self._post(client, "feedback", truth, {})

    def _ask(self, client: httpx.Client, row: int, session: str) -> httpx.Response | None:
        phase, began = self.phase, time.perf_counter()
        answer = self._post(client, "predict", {"rows": [self._rows[row]]}, {"x-session-id": session})
        took = time.perf_counter() - began
        good = answer is not None and answer.status_code == 200
        version = int(answer.headers.get("x-rayline-version", 0)) if answer is not None else 0
        with self._lock:
            count = self._counts[phase, version]
            if good:
                count.latencies.append(took)
            else:
                count.failures += 1
        return answer if good else None

    def _post(self, client: httpx.Client, verb: str, body: Any, headers: dict[str, str]) -> httpx.Response | None:
        for last in (False, True):
            try:
                return client.post(f"{self._url}/{verb}", json=body, headers=headers)
            except httpx.TransportError:
                if last:
                    return None
        return None


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
