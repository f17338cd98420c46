"""Simulated versions for ``verdicts.py``: the counts that a version would have for so many requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayline.serving.records.observation import LATENCY_EDGES, ArmStats, SliceStats

Arm = Callable[[np.random.Generator, int], ArmStats]
"""Draws the counts that a version would have for so many requests."""


@dataclass(frozen=True)
class Case:
    """A measure with its limit, and canaries that are equal, just at the limit, and worse."""

    name: str
    metric: Mapping[str, Any]
    stable: Arm
    limit: Arm
    worse: Arm
    said: str


def failing(rate: float) -> Arm:
    """Answers with 5xx at a rate."""
    return lambda random, n: ArmStats(requests=n, errors=int(random.binomial(n, rate)))


def slow(seconds: float) -> Arm:
    """Answers after a time that is lognormal around a median."""

    def arm(random: np.random.Generator, n: int) -> ArmStats:
        buckets = np.searchsorted(LATENCY_EDGES, random.lognormal(np.log(seconds), 0.6, n), side="right")
        counts = np.bincount(buckets, minlength=len(ArmStats().latency_counts))
        return ArmStats(requests=n, latency_counts=tuple(int(each) for each in counts))

    return arm


def right(rate: float) -> Arm:
    """Predicts the right label at a rate; the truth of every row arrives."""
    return lambda random, n: ArmStats(requests=n, feedback=n, correct=int(random.binomial(n, rate)))


def off(mean: float) -> Arm:
    """Errs by exponentially distributed amounts."""

    def arm(random: np.random.Generator, n: int) -> ArmStats:
        errors = random.exponential(mean, n)
        return ArmStats(
            requests=n,
            feedback=n,
            absolute_error=float(errors.sum()),
            squared_error=float((errors * errors).sum()),
        )

    return arm


def answering(shares: tuple[float, ...]) -> Arm:
    """Predicts labels in these shares."""

    def arm(random: np.random.Generator, n: int) -> ArmStats:
        counts = random.multinomial(n, shares)
        return ArmStats(requests=n, prediction_counts={str(place): int(each) for place, each in enumerate(counts)})

    return arm


SLICES = {"a": 0.3, "b": 0.25, "c": 0.2, "d": 0.15, "e": 0.1}


def right_by_slice(rate: float, **others: float) -> Arm:
    """Predicts the right label at a rate, and at another in some slices."""

    def arm(random: np.random.Generator, n: int) -> ArmStats:
        sizes = random.multinomial(n, list(SLICES.values()))
        parts = {
            name: SliceStats(int(size), int(size), int(random.binomial(size, others.get(name, rate))))
            for name, size in zip(SLICES, sizes, strict=True)
        }
        correct = sum(each.correct for each in parts.values())
        return ArmStats(requests=n, feedback=n, correct=correct, slices=parts)

    return arm


CASES = (
    Case(
        "error rate",
        {"measure": "error_rate", "max_increase": 0.01},
        failing(0.01),
        failing(0.02),
        failing(0.03),
        "1 % and 1 % more allowed; worse: 3 %",
    ),
    Case(
        "p95 latency",
        {"measure": "latency", "max_ratio": 1.5},
        slow(0.01),
        slow(0.015),
        slow(0.02),
        "half as much more allowed; worse: twice",
    ),
    Case(
        "accuracy",
        {"measure": "accuracy", "max_decrease": 0.03},
        right(0.85),
        right(0.82),
        right(0.79),
        "0.85 and 0.03 less allowed; worse: 0.79",
    ),
    Case(
        "mean absolute error",
        {"measure": "mean_absolute_error", "max_ratio": 1.1},
        off(10.0),
        off(11.0),
        off(12.0),
        "a tenth more allowed; worse: a fifth",
    ),
    Case(
        "prediction shift",
        {"measure": "prediction_shift", "max": 0.1},
        answering((0.5, 0.3, 0.2)),
        answering((0.381, 0.339, 0.280)),
        answering((0.3, 0.4, 0.3)),
        "distance 0.1 allowed; worse: 0.17",
    ),
    Case(
        "accuracy of one slice of five",
        {"measure": "accuracy", "max_decrease": 0.05, "by_slice": True},
        right_by_slice(0.85),
        right_by_slice(0.85, e=0.80),
        right_by_slice(0.85, e=0.70),
        "0.85 and 0.05 less allowed in each; worse: 0.70 in a tenth of the rows",
    ),
)
