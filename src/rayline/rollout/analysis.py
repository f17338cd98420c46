"""One measurement of one condition: both arms' counts give a verdict, with its reason as an inequality. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from rayline.config import MetricCondition
from rayline.rollout.intervals import Estimate, divergence, excess, mean_error, proportion, quantile
from rayline.rollout.plan import ALL_BOUNDS, RELATIVE
from rayline.serving.observation import ArmStats

Verdict = Literal["Successful", "Failed", "Inconclusive", "Error"]

NOTHING = Estimate(0.0, 0.0, 0.0)
ROUNDING = 1e-12


class Measurement(Struct, frozen=True):
    """What one condition gave at one moment.

    Attributes:
        measure: the condition's label, such as ``p95 latency``.
        verdict: as in Argo Rollouts. Too few samples, or a broken limit that chance could explain: Inconclusive.
        value: of the canary; None where it could not be measured.
        baseline: of the stable arm; None where the condition does not compare or has no samples.
        reason: an inequality with both numbers and the samples of the arms.
    """

    measure: str
    verdict: Verdict
    value: float | None
    baseline: float | None
    reason: str


def label(condition: MetricCondition) -> str:
    """Return what a condition measures, in words."""
    if condition.measure == "latency":
        return f"p{condition.quantile * 100:g} latency"
    return condition.measure.replace("_", " ")


def judge(
    condition: MetricCondition, stable: ArmStats, canary: ArmStats, *, names: tuple[str, str] = ("stable", "canary")
) -> Measurement:
    """Judge one condition over one window.

    A limit that holds is Successful. A limit that is broken is Failed only where the 99 % bound breaks it too (see
    ``intervals``); else chance could have done it, and the verdict is Inconclusive until more samples decide. Of
    several limits the worst verdict counts.

    Args:
        condition: what to measure, and its limits.
        stable: the stable arm's counts since the step began.
        canary: the canary's, over the same time.
        names: of the two arms, for the reason.
    """
    what = label(condition)
    bounds = [bound for bound in ALL_BOUNDS if getattr(condition, bound) is not None]
    compares = condition.measure == "prediction_shift" or any(bound in RELATIVE for bound in bounds)
    sizes = (_samples(condition, canary), _samples(condition, stable))
    arms = sizes if compares else sizes[:1]
    if min(arms) < condition.minimum_samples:
        reason = f"{what} of {names[1]} has too few samples: {_shown_sizes(arms)}, minimum {condition.minimum_samples}"
        return Measurement(what, "Inconclusive", None, None, reason)
    baseline = None
    if condition.measure == "prediction_shift":
        measured = divergence(canary.prediction_counts, stable.prediction_counts)
        subject = f"{what} of {names[1]} from {names[0]}"
    else:
        estimate = _ESTIMATES[condition.measure]
        measured = estimate(condition, canary)
        baseline = estimate(condition, stable) if compares else None
        subject = f"{what} of {names[1]}"
    if not all(math.isfinite(each.value) for each in (measured, baseline) if each is not None):
        reason = f"{subject} is not a finite number ({_shown_sizes(arms)})"
        return Measurement(what, "Error", None, None, reason)
    verdicts = [_bounded(condition, bound, measured, baseline) for bound in bounds]
    order: tuple[Verdict, ...] = ("Failed", "Inconclusive", "Successful")
    worst = min(verdicts, key=lambda each: order.index(each.verdict))
    reason = f"{subject} {worst.text(names[0], _unit(condition))} ({_shown_sizes(arms)})"
    if worst.verdict == "Inconclusive":
        reason += ", which chance could explain"
    return Measurement(what, worst.verdict, measured.value, baseline.value if baseline else None, reason)


class _Bounded(Struct, frozen=True):
    """How one limit came out: the numbers of its inequality and the words around them."""

    verdict: Verdict
    sign: str
    value: float
    baseline: float | None
    limit: float
    operator: str

    def text(self, stable: str, unit: str) -> str:
        """Return the inequality from its left number on."""
        if self.baseline is None:
            return f"{self.value:.4g}{unit} {self.sign} {self.limit:.4g}{unit}"
        limit = f"{self.limit:.4g}" if self.operator == "x" else f"{self.limit:.4g}{unit}"
        return f"{self.value:.4g}{unit} {self.sign} {stable} {self.baseline:.4g}{unit} {self.operator} {limit}"


def _bounded(condition: MetricCondition, bound: str, canary: Estimate, stable: Estimate | None) -> _Bounded:
    limit: float = getattr(condition, bound)
    operator, baseline = "", None
    if bound in RELATIVE:
        assert stable is not None
        baseline = stable.value
        ratio, offset, operator = {
            "max_increase": (1.0, limit, "+"),
            "max_decrease": (1.0, -limit, "-"),
            "max_ratio": (limit, 0.0, "x"),
        }[bound]
        over = excess(canary, stable, ratio=ratio, offset=offset)
    else:
        over = excess(canary, NOTHING, offset=limit)
    holds, broken = "<=", ">"
    if bound in ("min", "max_decrease"):
        over = Estimate(-over.value, -over.high, -over.low)
        holds, broken = ">=", "<"
    if over.value <= ROUNDING:
        return _Bounded("Successful", holds, canary.value, baseline, limit, operator)
    verdict: Verdict = "Failed" if over.low > 0 else "Inconclusive"
    return _Bounded(verdict, broken, canary.value, baseline, limit, operator)


_ESTIMATES: dict[str, Callable[[MetricCondition, ArmStats], Estimate]] = {
    "error_rate": lambda _, stats: proportion(stats.errors, stats.requests),
    "latency": lambda condition, stats: quantile(stats, condition.quantile),
    "accuracy": lambda _, stats: proportion(stats.correct, stats.feedback),
    "mean_absolute_error": lambda _, stats: mean_error(stats.absolute_error, stats.feedback),
}


def _samples(condition: MetricCondition, stats: ArmStats) -> int:
    match condition.measure:
        case "error_rate":
            return stats.requests
        case "latency":
            return sum(stats.latency_counts)
        case "prediction_shift":
            return sum(stats.prediction_counts.values())
        case _:
            return stats.feedback


def _unit(condition: MetricCondition) -> str:
    return " s" if condition.measure == "latency" else ""


def _shown_sizes(sizes: tuple[int, ...]) -> str:
    return f"n = {' and '.join(str(size) for size in sizes)}"
