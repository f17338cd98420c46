"""A clock that tells Unix time and never jumps: a pause lasts as long as it should, whatever is done to the wall clock.

It takes the wall clock's time once, and goes on by the monotonic clock. So a jump takes effect with the controller's
next restart at the earliest, and backwards not even then: time never falls behind the last decision on disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class SteadyClock:
    """Unix time in seconds, rising."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set it by the wall clock."""
        self._monotonic = monotonic
        self._zero = wall() - monotonic()

    def not_before(self, moment: float) -> None:
        """Set it forward to a moment that is known to have passed."""
        self._zero = max(self._zero, moment - self._monotonic())

    def __call__(self) -> float:
        """Return the time."""
        return self._zero + self._monotonic()
