"""When a Study starts no more trials."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rayline.config import StopConfig


@dataclass(frozen=True, slots=True)
class Limits:
    """The ends of a Study.

    Attributes:
        trials: no more than so many.
        sign: 1 where less of the metric is better, -1 where more is.
    """

    trials: int
    stop: StopConfig
    sign: int

    def reached(self, values: Sequence[float | None], seconds: float) -> str | None:
        """Return why no further trial starts, or None where one may.

        Args:
            values: the metric of each ended trial, in the order in which they ended; None of a failed one.
            seconds: for how long the Study has worked, all attempts together.
        """
        stop = self.stop
        if stop.target is not None and self.meets_target(values):
            return f"a trial reached the target {stop.target:g}"
        if stop.no_gain_for is not None and _without_gain(values, self.sign) >= stop.no_gain_for:
            return f"{stop.no_gain_for} trials in a row brought no gain"
        if stop.seconds is not None and seconds >= stop.seconds:
            return f"its {stop.seconds:g} seconds are over"
        return None

    def meets_target(self, values: Sequence[float | None]) -> bool:
        """Tell whether one of the values is good enough."""
        target = self.stop.target
        return target is not None and any(
            value is not None and self.sign * value <= self.sign * target for value in values
        )


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """For how long a Study has worked, with ``before`` the seconds of earlier attempts."""

    before: float
    _began: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Return the seconds of all attempts together."""
        return self.before + time.monotonic() - self._began


def _without_gain(values: Sequence[float | None], sign: int) -> int:
    """Return how many of the last values are no better than the best before them."""
    best: float | None = None
    since = 0
    for value in values:
        if value is not None and (best is None or sign * value < sign * best):
            best, since = value, 0
        else:
            since += 1
    return since
