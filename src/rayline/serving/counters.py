"""The counters of one version in one replica: written by the hot path, read by whoever observes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from rayline.serving.observation import LATENCY_EDGES, ArmStats, latency_bucket


class Counters:
    """Cumulative counts that only grow. One thread writes; a reader may be a request behind."""

    __slots__ = (
        "_absolute_error",
        "_correct",
        "_edges",
        "_errors",
        "_feedback",
        "_latency",
        "_predictions",
        "_requests",
    )

    def __init__(self, edges: Sequence[float]) -> None:
        """Start at zero. ``edges`` are the bounds of the bins that a regression's predictions are counted in."""
        self._edges = edges
        self._requests = 0
        self._errors = 0
        self._latency = [0] * (len(LATENCY_EDGES) + 1)
        self._predictions: dict[str, int] = {}
        self._feedback = 0
        self._correct = 0
        self._absolute_error = 0.0

    def answered(self, seconds: float, outcomes: Sequence[Any], *, labelled: bool) -> None:
        """Count one answered request: class labels, or predicted values, one per row."""
        self._requests += 1
        self._latency[latency_bucket(seconds)] += 1
        counts = self._predictions
        edges = self._edges
        for outcome in outcomes:
            key = outcome if labelled else str(bisect_right(edges, outcome))
            counts[key] = counts.get(key, 0) + 1

    def failed(self, seconds: float) -> None:
        """Count one request that got a 5xx answer."""
        self._requests += 1
        self._errors += 1
        self._latency[latency_bucket(seconds)] += 1

    def told(self, rows: int, correct: int, absolute_error: float) -> None:
        """Count the truth of some rows."""
        self._feedback += rows
        self._correct += correct
        self._absolute_error += absolute_error

    def snapshot(self) -> ArmStats:
        """Return the counts so far."""
        return ArmStats(
            requests=self._requests,
            errors=self._errors,
            latency_counts=tuple(self._latency),
            prediction_counts=dict(self._predictions),
            feedback=self._feedback,
            correct=self._correct,
            absolute_error=self._absolute_error,
        )


def prediction_edges(mean: float, deviation: float) -> tuple[float, ...]:
    """Return bounds of the bins for a regression: a quarter of the target's deviation wide, three to each side.

    They come from the first version of a service and stay, so that the counts of all its versions can be compared.
    """
    return tuple(mean + deviation * step / 4 for step in range(-12, 13))


def as_json(stats: Mapping[int, ArmStats]) -> dict[str, Any]:
    """Return JSON-ready counts per version."""
    return {str(number): each.to_json() for number, each in stats.items()}
