"""The counters of one version in one replica: written by the hot path, read by whoever observes."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rayline.serving.records.observation import LATENCY_EDGES, ArmStats, ShadowStats, SliceStats, latency_bucket


@dataclass(frozen=True, slots=True)
class RowTruth:
    """What the truth of one row says of its answer.

    Attributes:
        correct: the label was predicted (classification).
        error: prediction less truth, in the target's units (regression).
        slices: those that the row belongs to.
    """

    correct: bool = False
    error: float = 0.0
    slices: tuple[str, ...] = ()


class Counters:
    """Cumulative counts that only grow.

    One thread writes what the hot path counts (``answered``, ``failed``), without a lock; a reader may be a request
    behind. Everything else comes in the background from several threads and takes one.
    """

    __slots__ = (
        "_edges",
        "_errors",
        "_latency",
        "_later",
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
        self._later = _Later()

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

    def told(self, truths: Sequence[RowTruth]) -> None:
        """Count the truth of some rows."""
        self._later.told(truths)

    def measured(self, features: Mapping[str, Mapping[str, int]], slices: Mapping[str, int]) -> None:
        """Count answered rows by what was asked.

        Args:
            features: column to level or bin to rows, none of them 0.
            slices: slice to rows.
        """
        self._later.measured(features, slices)

    def mirrored(self, compared: ShadowStats) -> None:
        """Count what this version said to requests that others answered."""
        self._later.mirrored(compared)

    def snapshot(self) -> ArmStats:
        """Return the counts so far."""
        return self._later.onto(
            ArmStats(
                requests=self._requests,
                errors=self._errors,
                latency_counts=tuple(self._latency),
                prediction_counts=dict(self._predictions),
            )
        )


class _Later:
    """What is counted after an answer has gone out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._feedback = 0
        self._correct = 0
        self._absolute = 0.0
        self._squared = 0.0
        self._features: dict[str, dict[str, int]] = {}
        self._slices: dict[str, list[Any]] = {}
        self._shadow = ShadowStats()

    def told(self, truths: Sequence[RowTruth]) -> None:
        with self._lock:
            for truth in truths:
                error = abs(truth.error)
                gained = (0, 1, int(truth.correct), error, error * error)
                self._feedback += 1
                self._correct += gained[2]
                self._absolute += error
                self._squared += gained[4]
                for name in truth.slices:
                    self._slices[name] = [had + more for had, more in zip(self._of(name), gained, strict=True)]

    def measured(self, features: Mapping[str, Mapping[str, int]], slices: Mapping[str, int]) -> None:
        with self._lock:
            for column, counts in features.items():
                known = self._features.setdefault(column, {})
                for label, rows in counts.items():
                    known[label] = known.get(label, 0) + rows
            for name, rows in slices.items():
                self._of(name)[0] += rows

    def mirrored(self, compared: ShadowStats) -> None:
        with self._lock:
            self._shadow = self._shadow.plus(compared)

    def onto(self, stats: ArmStats) -> ArmStats:
        with self._lock:
            return replace(
                stats,
                feedback=self._feedback,
                correct=self._correct,
                absolute_error=self._absolute,
                squared_error=self._squared,
                feature_counts={column: dict(counts) for column, counts in self._features.items()},
                slices={name: SliceStats(*counts) for name, counts in self._slices.items()},
                shadow=self._shadow,
            )

    def _of(self, name: str) -> list[Any]:
        return self._slices.setdefault(name, [0, 0, 0, 0.0, 0.0])


def prediction_edges(mean: float, deviation: float) -> tuple[float, ...]:
    """Return bounds of the bins for a regression: a quarter of the target's deviation wide, three to each side.

    They come from the first version of a service and stay, so that the counts of all its versions can be compared.
    """
    return tuple(mean + deviation * step / 4 for step in range(-12, 13))


def as_json(stats: Mapping[int, ArmStats]) -> dict[str, Any]:
    """Return JSON-ready counts per version."""
    return {str(number): each.to_json() for number, each in stats.items()}
