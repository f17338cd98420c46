"""One measurement of one condition: both arms' counts give a verdict, with its reason as an inequality. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from rayline.config import MetricCondition
from rayline.rollout.analysis.external import EXTERNAL
from rayline.rollout.analysis.intervals import ALPHA, Estimate, divergence, exactly
from rayline.rollout.analysis.limits import (
    ALL_BOUNDS,
    RELATIVE,
    Outcome,
    Verdict,
    chances,
    compares,
    outcomes,
    worst_of,
)
from rayline.rollout.analysis.measures import BETWEEN_ARMS, columns, estimate, label, samples, shift, slices
from rayline.serving.records.observation import ArmStats

__all__ = ["ALL_BOUNDS", "RELATIVE", "Measurement", "Verdict", "judge", "judge_external", "label"]


LIKELY = 0.05
"""The chance at which a slice that seems to break its limit is no longer passed over; it takes less to fail it."""


class Measurement(Struct, frozen=True):
    """What one condition gave at one moment.

    Attributes:
        measure: the condition's label, such as ``p95 latency``.
        verdict: as in Argo Rollouts. Too few samples, or a broken limit that chance could explain: Inconclusive.
        value: of the canary; None where it could not be measured.
        baseline: of the stable arm; None where the condition does not compare or has no samples.
        reason: an inequality with both numbers and the samples of the arms.
        low: one-sided lower bound of ``value`` at the level that this look may use; of an experiment, the lower end of
            the gain's interval; None where there is none.
        high: the upper one.
        samples: of the canary, and of the stable arm where it counts.
        slice: the worst slice or column, where the condition looks at several; of an experiment, who is better.
    """

    measure: str
    verdict: Verdict
    value: float | None
    baseline: float | None
    reason: str
    low: float | None = None
    high: float | None = None
    samples: tuple[int, ...] = ()
    slice: str = ""


def judge(
    condition: MetricCondition,
    stable: ArmStats,
    canary: ArmStats,
    *,
    names: tuple[str, str] = ("stable", "canary"),
    alpha: float = ALPHA,
) -> Measurement:
    """Judge one condition over one window.

    A limit that holds is Successful. A limit that is broken is Failed only where its bound at ``alpha`` breaks it too
    (see ``intervals``); else chance could have done it, and the verdict is Inconclusive until more samples decide. Of
    several limits the worst verdict counts; each gets its part of ``alpha`` (Bonferroni), and so do slices: the whole
    has one half of it and the slices share the other. (For the question whether any slice fails, Bonferroni's rule is
    the first step of Holm's.) Of many slices some always seem to break a limit: one that does holds everything up only
    where less than ``LIKELY`` speaks for chance.

    Args:
        condition: what to measure, and its limits; not one that is measured outside.
        stable: the stable arm's counts since the step began.
        canary: the canary's, over the same time.
        names: of the two arms, for the reason.
        alpha: the chance with which this measurement may fail a canary that keeps its limits.
    """
    if condition.measure == "feature_drift":
        return _drift(condition, stable, canary, names, alpha)
    if condition.by_slice:
        return _by_slice(condition, stable, canary, names, alpha)
    return _whole(condition, stable, canary, names, alpha)


def judge_external(
    condition: MetricCondition,
    canary: float | str,
    stable: float | str | None,
    *,
    names: tuple[str, str] = ("stable", "canary"),
) -> Measurement:
    """Judge a condition on numbers that were measured outside, or on the words why one was not.

    Such numbers come without an interval: they are taken as they are, and ``failure_limit`` is what bears their noise.
    """
    what = label(condition)
    for name, each in zip(names[::-1], (canary, stable), strict=True):
        if isinstance(each, str):
            return Measurement(what, "Error", None, None, f"{what} of {name} could not be measured: {each}")
    estimates = (exactly(float(canary)), None if stable is None else exactly(float(stable)))
    return _judged(condition, *estimates, (), f"{what} of {names[1]}", names[0])


def measured_outside(condition: MetricCondition) -> bool:
    """Tell whether a condition's numbers come from outside the service."""
    return condition.measure in EXTERNAL


def _whole(
    condition: MetricCondition,
    stable: ArmStats,
    canary: ArmStats,
    names: tuple[str, str],
    alpha: float,
    part: str = "",
) -> Measurement:
    what = label(condition)
    between = condition.measure in BETWEEN_ARMS
    both = between or compares(condition)
    sizes = (samples(condition, canary), samples(condition, stable))[: 2 if both else 1]
    place = f" in {part}" if part else ""
    if min(sizes) < condition.minimum_samples:
        few = f"{_shown(sizes)}, minimum {condition.minimum_samples}"
        reason = f"{what} of {names[1]}{place} has too few samples: {few}"
        return Measurement(what, "Inconclusive", None, None, reason, samples=sizes)
    level = alpha / chances(condition)
    if between:
        found, baseline = shift(canary, stable, level), None
        subject = f"{what} of {names[1]} from {names[0]}"
    else:
        found = estimate(condition, canary, level)
        baseline = estimate(condition, stable, level) if both else None
        subject = f"{what} of {names[1]}{place}"
    return _judged(condition, found, baseline, sizes, subject, names[0])


def _judged(
    condition: MetricCondition,
    canary: Estimate,
    stable: Estimate | None,
    sizes: tuple[int, ...],
    subject: str,
    name: str,
) -> Measurement:
    what = label(condition)
    size = f" ({_shown(sizes)})" if sizes else ""
    if not all(math.isfinite(each.value) for each in (canary, stable) if each is not None):
        return Measurement(what, "Error", None, None, f"{subject} is not a finite number{size}", samples=sizes)
    worst: Outcome = worst_of(outcomes(condition, canary, stable, name))
    return Measurement(
        what,
        worst.verdict,
        canary.value,
        stable.value if stable is not None else None,
        f"{subject} {worst.text}{size}{worst.doubt}",
        _finite(canary.low),
        _finite(canary.high),
        sizes,
    )


def _by_slice(
    condition: MetricCondition, stable: ArmStats, canary: ArmStats, names: tuple[str, str], alpha: float
) -> Measurement:
    whole = _whole(condition, stable, canary, names, alpha / 2)
    mine, theirs = slices(condition, canary), slices(condition, stable)
    pairs = {name: (theirs.get(name, ArmStats()), stats) for name, stats in sorted(mine.items())}
    large = {name: pair for name, pair in pairs.items() if _large_enough(condition, *pair)}
    parts = _parts(condition, large, names, alpha / 2)
    few = f"; {len(mine) - len(large)} of {len(mine)} slices have too few samples" if len(large) < len(mine) else ""
    failed = {name: each for name, each in parts.items() if each.verdict == "Failed"}
    if failed:
        name, found = _worst(condition, failed)
        others = f"; {len(failed)} of {len(large)} slices fail" if len(failed) > 1 else ""
        return replace(found, reason=f"{found.reason}{others}{few}", slice=name)
    if whole.verdict != "Successful":
        return whole
    if not parts:
        none = "no slice has enough samples" if mine else "no slice is counted: name columns in service.slices"
        return replace(whole, verdict="Inconclusive", reason=f"{whole.reason}; {none}")
    doubtful = _doubtful(condition, large, parts, names)
    if doubtful:
        name, found = _worst(condition, doubtful)
        return replace(found, verdict="Inconclusive", slice=name)
    _, found = _worst(condition, parts)
    return replace(whole, reason=f"{whole.reason}; of {len(parts)} slices none fails, worst: {found.reason}{few}")


Pairs = Mapping[str, tuple[ArmStats, ArmStats]]


def _parts(condition: MetricCondition, pairs: Pairs, names: tuple[str, str], alpha: float) -> dict[str, Measurement]:
    return {name: _whole(condition, *pair, names, alpha / len(pairs), f"slice {name}") for name, pair in pairs.items()}


def _doubtful(
    condition: MetricCondition, pairs: Pairs, parts: Mapping[str, Measurement], names: tuple[str, str]
) -> dict[str, Measurement]:
    """Return the slices that let nothing pass: not proven where they must be, else likely to break their limit."""
    unsure = {name: each for name, each in parts.items() if each.verdict != "Successful"}
    if condition.proven or not unsure:
        return unsure
    likely = _parts(condition, pairs, names, LIKELY * chances(condition))
    return {name: each for name, each in unsure.items() if likely[name].verdict == "Failed"}


def _worst(condition: MetricCondition, parts: Mapping[str, Measurement]) -> tuple[str, Measurement]:
    name = max(parts, key=lambda each: _worse_by(condition, parts[each]))
    return name, parts[name]


def _drift(
    condition: MetricCondition, stable: ArmStats, canary: ArmStats, names: tuple[str, str], alpha: float
) -> Measurement:
    found = columns(condition, canary, stable)
    large = {
        name: counts
        for name, counts in found.items()
        if min(sum(each.values()) for each in counts) >= condition.minimum_samples
    }
    what = label(condition)
    if not large:
        most = max((min(sum(each.values()) for each in counts) for counts in found.values()), default=0)
        reason = f"{what} of {names[1]} has too few samples: n = {most}, minimum {condition.minimum_samples}"
        return Measurement(what, "Inconclusive", None, None, reason, samples=(most,))
    level = alpha / len(large) / chances(condition)
    measured = []
    for name, (mine, theirs) in large.items():
        sizes = (sum(mine.values()), sum(theirs.values()))
        subject = f"drift of '{name}' of {names[1]} from {names[0]}"
        estimated = divergence(mine, theirs, level)
        measured.append(replace(_judged(condition, estimated, None, sizes, subject, names[0]), slice=name))
    order: Mapping[Verdict, int] = {"Failed": 0, "Error": 1, "Inconclusive": 2, "Successful": 3}
    return min(measured, key=lambda each: (order[each.verdict], -(each.value or 0.0)))


def _worse_by(condition: MetricCondition, measured: Measurement) -> float:
    """Return how much worse the canary is than the stable version, where both are known; larger is worse."""
    if measured.value is None:
        return 0.0
    gap = measured.value - (measured.baseline if measured.baseline is not None else 0.0)
    return -gap if condition.measure in ("accuracy", "agreement") else gap


def _large_enough(condition: MetricCondition, stable: ArmStats, canary: ArmStats) -> bool:
    arms = (canary, stable) if compares(condition) else (canary,)
    return min(samples(condition, each) for each in arms) >= condition.minimum_samples


def _shown(sizes: tuple[int, ...]) -> str:
    return f"n = {' and '.join(str(size) for size in sizes)}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
