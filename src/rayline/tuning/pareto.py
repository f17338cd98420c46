"""Which trials no other one beats in every objective. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rayline.tuning.ledger import Trial


def front(trials: Sequence[Trial], metrics: Sequence[str], signs: Sequence[int]) -> tuple[Trial, ...]:
    """Return the Pareto front, in the order of the trials.

    Args:
        trials: with all ``metrics``.
        metrics: names of the objectives.
        signs: 1 where less of an objective is better, -1 where more is.
    """
    points = [tuple(sign * trial.metrics[name] for name, sign in zip(metrics, signs, strict=True)) for trial in trials]
    return tuple(
        trial for trial, point in zip(trials, points, strict=True) if not any(_beats(other, point) for other in points)
    )


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= its for mine, its in zip(one, other, strict=True))
