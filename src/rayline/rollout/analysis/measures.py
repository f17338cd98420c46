"""What each measure is computed from: its samples, its value with bounds, and its parts by slice or column. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rayline.config import MetricCondition
from rayline.rollout.analysis.intervals import Estimate, divergence, mean_error, proportion, quantile
from rayline.serving.records.observation import ArmStats, ShadowStats, SliceStats

BOUNDS: dict[str, tuple[str, ...]] = {
    "error_rate": ("max", "max_increase", "max_ratio"),
    "latency": ("max", "max_increase", "max_ratio"),
    "prediction_shift": ("max",),
    "feature_drift": ("max",),
    "accuracy": ("min", "max_decrease"),
    "mean_absolute_error": ("max", "max_increase", "max_ratio"),
    "agreement": ("min",),
    "shadow_distance": ("max",),
    "shadow_error_rate": ("max",),
    "prometheus": ("max", "min", "max_increase", "max_decrease", "max_ratio"),
    "function": ("max", "min", "max_increase", "max_decrease", "max_ratio"),
}
"""Which limits make sense for a measure; the others would let a worse version pass."""

BETWEEN_ARMS = ("prediction_shift", "feature_drift")
"""One number that is measured on both arms together."""

SHADOW = ("agreement", "shadow_distance", "shadow_error_rate")
"""Measured on copies of requests."""

SLICED = ("accuracy", "mean_absolute_error", "agreement")
"""Counted by slice too."""


def label(condition: MetricCondition) -> str:
    """Return what a condition measures, in words."""
    if condition.name:
        return condition.name
    match condition.measure:
        case "latency":
            return f"p{condition.quantile * 100:g} latency"
        case "feature_drift":
            return f"drift of '{condition.column}'" if condition.column else "feature drift"
        case "prometheus":
            return f"query {condition.query}"
        case "function":
            return f"function {condition.function}"
        case measure:
            return measure.replace("_", " ")


def samples(condition: MetricCondition, stats: ArmStats) -> int:
    """Return how many samples an arm has."""
    match condition.measure:
        case "error_rate":
            return stats.requests
        case "latency":
            return sum(stats.latency_counts)
        case "prediction_shift":
            return sum(stats.prediction_counts.values())
        case "accuracy" | "mean_absolute_error":
            return stats.feedback
        case "shadow_error_rate":
            return stats.shadow.rows + stats.shadow.errors
        case _:
            return stats.shadow.rows


def estimate(condition: MetricCondition, stats: ArmStats, alpha: float) -> Estimate:
    """Return a measure of one arm with one-sided bounds at ``alpha``; the arm has at least one sample."""
    return _ESTIMATES[condition.measure](condition, stats, alpha)


def shift(canary: ArmStats, stable: ArmStats, alpha: float) -> Estimate:
    """Return how far the arms' predictions lie apart, with bounds."""
    return divergence(canary.prediction_counts, stable.prediction_counts, alpha)


def columns(condition: MetricCondition, canary: ArmStats, stable: ArmStats) -> dict[str, tuple[Counts, Counts]]:
    """Return the counts of the inputs, by column, of the canary and of the stable arm."""
    names = [condition.column] if condition.column else sorted({*canary.feature_counts, *stable.feature_counts})
    return {name: (canary.feature_counts.get(name, {}), stable.feature_counts.get(name, {})) for name in names}


def slices(condition: MetricCondition, stats: ArmStats) -> dict[str, ArmStats]:
    """Return an arm's counts by slice, each as if it were an arm."""
    if condition.measure == "agreement":
        return {
            name: ArmStats(shadow=ShadowStats(rows=rows, agreed=rows - apart))
            for name, (rows, apart) in stats.shadow.slices.items()
        }
    return {name: _as_arm(each) for name, each in stats.slices.items()}


Counts = Mapping[str, int]


def _as_arm(stats: SliceStats) -> ArmStats:
    return ArmStats(
        feedback=stats.feedback,
        correct=stats.correct,
        absolute_error=stats.absolute_error,
        squared_error=stats.squared_error,
    )


def _shadow_error_rate(_: MetricCondition, stats: ArmStats, alpha: float) -> Estimate:
    return proportion(stats.shadow.errors, stats.shadow.rows + stats.shadow.errors, alpha)


def _shadow_distance(_: MetricCondition, stats: ArmStats, alpha: float) -> Estimate:
    return mean_error(stats.shadow.distance, stats.shadow.rows, alpha, stats.shadow.squared_distance)


_ESTIMATES: dict[str, Callable[[MetricCondition, ArmStats, float], Estimate]] = {
    "error_rate": lambda _, stats, alpha: proportion(stats.errors, stats.requests, alpha),
    "latency": lambda condition, stats, alpha: quantile(stats, condition.quantile, alpha),
    "accuracy": lambda _, stats, alpha: proportion(stats.correct, stats.feedback, alpha),
    "mean_absolute_error": lambda _, stats, alpha: mean_error(
        stats.absolute_error, stats.feedback, alpha, stats.squared_error
    ),
    "agreement": lambda _, stats, alpha: proportion(stats.shadow.agreed, stats.shadow.rows, alpha),
    "shadow_distance": _shadow_distance,
    "shadow_error_rate": _shadow_error_rate,
}
