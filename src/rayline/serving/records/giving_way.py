"""How much of its time a background thread may take: much where the event loop idles, next to nothing where it cannot.

Python runs one thread at a time, so what is done beside the requests is taken from them once the event loop has no time
to spare. A thread that gives way works, and then rests until its work was no more than its share of the time.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

IDLE, SATURATED = 0.5, 0.85
"""The share of the time in which the event loop runs or waits for a processor: below the first, and from the second."""
LEISURE, PRESSED = 0.5, 0.0075
"""What a background thread takes then: a share of the time, and of the time that the event loop itself gets; in between
it falls in a straight line."""
LEAST = 0.05
"""The least share of the time that the event loop is taken to get, so that a thread that gives way still gets on."""
LOOK_SECONDS = 0.2


class EventLoopLoad:
    """How busy one thread is, looked at from another."""

    def __init__(self) -> None:
        """Watch nothing yet: without a thread to watch, it idles."""
        self._path: Path | None = None
        self._clock: int | None = None
        self._looked = time.monotonic()
        self._before = (0.0, 0.0)
        self._busy = 0.0
        self._running = 0.0

    def watch(self) -> None:
        """Watch the thread that calls this."""
        path = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._path = path if path.exists() else None
        if self._path is None and hasattr(time, "pthread_getcpuclockid"):
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._looked, self._before = time.monotonic(), self._seconds()

    @property
    def share(self) -> float:
        """The share of its time that a background thread may take now."""
        return share_of(self.busy, self._running)

    @property
    def busy(self) -> float:
        """The share of the latest time, 0 to 1, in which the thread ran, or would have run on a free processor."""
        now = time.monotonic()
        passed = now - self._looked
        if passed >= LOOK_SECONDS:
            ran, waited = self._seconds()
            self._running = min(1.0, max(0.0, ran - self._before[0]) / passed)
            self._busy = min(1.0, self._running + max(0.0, waited - self._before[1]) / passed)
            self._looked, self._before = now, (ran, waited)
        return self._busy

    def _seconds(self) -> tuple[float, float]:
        """Return how long the thread ran so far, and how long it waited for a processor."""
        try:
            if self._path is not None:
                ran, waited = self._path.read_bytes().split()[:2]  # nanoseconds
                return int(ran) / 1e9, int(waited) / 1e9
            if self._clock is not None:
                return time.clock_gettime(self._clock), 0.0
        except (OSError, ValueError):
            return self._before  # the thread has ended
        return 0.0, 0.0


def share_of(busy: float, running: float) -> float:
    """Return the share of its time that a background thread may take beside an event loop.

    Args:
        busy: the share of the time, 0 to 1, in which the event loop runs or waits for a processor.
        running: the part of it in which it runs: what is taken from a loop that others hinder is to be in proportion.
    """
    pressure = min(1.0, max(0.0, (busy - IDLE) / (SATURATED - IDLE)))
    return LEISURE + (PRESSED * max(LEAST, running) - LEISURE) * pressure
