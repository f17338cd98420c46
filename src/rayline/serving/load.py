"""How many requests a replica has under way on average: what its number of replicas is decided by.

The short way into a replica bypasses Serve's own count, and a count at one moment would tell little: what shares a pass
comes and goes within a turn of the event loop. So it is worked out by Little's law (J. D. C. Little, 1961): the mean
number under way is the rate of requests times the mean time that each spends here. That time is what the versions'
counters hold, from a request's arrival to its answer, and what it waited before it could arrive: the lag of the event
loop, which a timer measures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

from rayline.serving.records.observation import LATENCY_EDGES

PROBE_SECONDS = 0.05


class LoopLag:
    """Measures by how much the timers of an event loop are late: how long what is ready waits for its turn."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0
        self.started = False

    def start(self) -> None:
        """Measure the running loop from now on."""
        self.started = True
        self._next(asyncio.get_running_loop())

    def mean(self) -> float:
        """Return the mean lag in seconds since the last call; 0 where nothing was measured."""
        total, count = self._sum, self._count
        self._sum, self._count = 0.0, 0
        return total / count if count else 0.0

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + PROBE_SECONDS
        loop.call_at(due, self._late, loop, due)

    def _late(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._sum += max(0.0, loop.time() - due)
        self._count += 1
        self._next(loop)


class Load:
    """The mean number of requests under way between two looks."""

    def __init__(self, lag: LoopLag) -> None:
        """Start now."""
        self._lag = lag
        self._at = monotonic()
        self._before = (0, 0.0)

    def under_way(self, stats: Mapping[str, Mapping[str, Any]]) -> float:
        """Return the mean number since the last look.

        Args:
            stats: per version its cumulative counts, as ``Host.report`` gives them.
        """
        now, lag = monotonic(), self._lag.mean()
        requests, seconds = spent([each["latency_counts"] for each in stats.values()])
        passed = max(now - self._at, 1e-3)
        gained = max(0, requests - self._before[0])
        inside = max(0.0, seconds - self._before[1])
        self._at, self._before = now, (requests, seconds)
        return (inside + gained * lag) / passed


def spent(latency_counts: list[list[int]]) -> tuple[int, float]:
    """Return how many requests were answered, and the seconds that they spent here, to the middle of each bucket."""
    lows = (0.0, *LATENCY_EDGES)
    highs = (*LATENCY_EDGES, LATENCY_EDGES[-1])
    middles = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
    requests = sum(sum(counts) for counts in latency_counts)
    seconds = sum(
        count * middle for counts in latency_counts for count, middle in zip(counts, middles, strict=True) if count
    )
    return requests, seconds
