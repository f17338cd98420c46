"""Limits of a measure: whether they hold, whether chance could have done it, and the inequality in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rayline.config import MetricCondition
from rayline.rollout.analysis.expression import Answer, Expression
from rayline.rollout.analysis.intervals import Estimate, exactly, excess

Verdict = Literal["Successful", "Failed", "Inconclusive", "Error"]
"""As in Argo Rollouts."""

ALL_BOUNDS = ("max", "min", "max_increase", "max_decrease", "max_ratio")
RELATIVE = ("max_increase", "max_decrease", "max_ratio")
CONDITIONS = ("success_condition", "failure_condition")

ORDER: tuple[Verdict, ...] = ("Failed", "Error", "Inconclusive", "Successful")
"""The worst first."""

ROUNDING = 1e-12
UNPROVEN = ", which chance could explain"
UNSURE = ", which is not proven yet"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one limit came out.

    Attributes:
        verdict: Failed only where chance cannot explain it.
        text: the inequality, from its left number on.
        margin: by how much the limit is surely broken; negative where it is not.
        doubt: the words for a verdict that chance forbids.
    """

    verdict: Verdict
    text: str
    margin: float
    doubt: str = ""


def bounds_of(condition: MetricCondition) -> list[str]:
    """Return the names of the bounds that are set."""
    return [bound for bound in ALL_BOUNDS if getattr(condition, bound) is not None]


def expressions_of(condition: MetricCondition) -> dict[str, Expression]:
    """Return the expressions that are set, by field. Raises ``ConfigError`` where one is none."""
    texts = {field: getattr(condition, field) for field in CONDITIONS}
    return {field: Expression.parse(text, field) for field, text in texts.items() if text is not None}


def compares(condition: MetricCondition) -> bool:
    """Tell whether the stable arm is needed beside the canary, for a measure of single arms."""
    stable = any("stable" in each.names for each in expressions_of(condition).values())
    return stable or any(bound in RELATIVE for bound in bounds_of(condition))


def chances(condition: MetricCondition) -> int:
    """Return into how many parts a condition's chance to err is divided: one for each interval that may be wrong."""
    return len(bounds_of(condition)) + sum(len(each.names) for each in expressions_of(condition).values())


def outcomes(condition: MetricCondition, canary: Estimate, stable: Estimate | None, name: str) -> list[Outcome]:
    """Return how each limit came out.

    Args:
        condition: whose limits.
        canary: measured.
        stable: measured, where a limit compares with it.
        name: of the stable arm.
    """
    unit = " s" if condition.measure == "latency" else ""
    found = [_bounded(condition, bound, canary, stable, name, unit) for bound in bounds_of(condition)]
    written = expressions_of(condition)
    if written:
        found.append(_written(condition, written, canary, stable, name, unit))
    return found


def worst_of(found: Sequence[Outcome]) -> Outcome:
    """Return the outcome that counts: the worst verdict, and of several the limit that is broken most."""
    return min(found, key=lambda each: (ORDER.index(each.verdict), -each.margin))


def _bounded(
    condition: MetricCondition, bound: str, canary: Estimate, stable: Estimate | None, name: str, unit: str
) -> Outcome:
    limit: float = getattr(condition, bound)
    shown = f"{limit:.4g}{unit}"
    if bound in RELATIVE:
        assert stable is not None
        ratio, offset, sign = {
            "max_increase": (1.0, limit, "+"),
            "max_decrease": (1.0, -limit, "-"),
            "max_ratio": (limit, 0.0, "x"),
        }[bound]
        over = excess(canary, stable, ratio=ratio, offset=offset)
        shown = f"{name} {stable.value:.4g}{unit} {sign} {f'{limit:.4g}' if sign == 'x' else shown}"
    else:
        over = excess(canary, exactly(0.0), offset=limit)
    holds, broken = "<=", ">"
    if bound in ("min", "max_decrease"):
        over = Estimate(-over.value, -over.high, -over.low)
        holds, broken = ">=", "<"
    if over.value <= ROUNDING:
        sure = over.high <= ROUNDING or not condition.proven
        text = f"{canary.value:.4g}{unit} {holds} {shown}"
        return Outcome("Successful" if sure else "Inconclusive", text, over.low, "" if sure else UNSURE)
    proven = over.low > 0
    text = f"{canary.value:.4g}{unit} {broken} {shown}"
    return Outcome("Failed" if proven else "Inconclusive", text, over.low, "" if proven else UNPROVEN)


def _written(
    condition: MetricCondition,
    written: dict[str, Expression],
    canary: Estimate,
    stable: Estimate | None,
    name: str,
    unit: str,
) -> Outcome:
    """Return the outcome of ``success_condition`` and ``failure_condition``, with Argo's meaning.

    With both, a result that meets neither is Inconclusive. An answer that chance could turn decides no failure.
    """
    arms = {"canary": canary, **({"stable": stable} if stable is not None else {})}
    points = {arm: (each.value, each.value) for arm, each in arms.items()}
    ranges = {arm: (each.low, each.high) for arm, each in arms.items()}
    said = f"{canary.value:.4g}{unit}"
    if stable is not None:
        said += f" with {name} {stable.value:.4g}{unit}"
    failure, success = written.get("failure_condition"), written.get("success_condition")
    if failure is not None and failure.holds(points):
        proven = failure.holds(ranges) is True
        text = f"{said} meets failure_condition {failure.text}"
        return Outcome("Failed" if proven else "Inconclusive", text, 0.0, "" if proven else UNPROVEN)
    if success is None:
        assert failure is not None
        sure = failure.holds(ranges) is False or not condition.proven
        return _fine(f"{said} does not meet failure_condition {failure.text}", sure)
    if success.holds(points):
        return _fine(f"{said} meets success_condition {success.text}", _sure(success.holds(ranges), condition))
    text = f"{said} does not meet success_condition {success.text}"
    if failure is not None:
        return Outcome("Inconclusive", text, 0.0)
    proven = success.holds(ranges) is False
    return Outcome("Failed" if proven else "Inconclusive", text, 0.0, "" if proven else UNPROVEN)


def _sure(answer: Answer, condition: MetricCondition) -> bool:
    return answer is True or not condition.proven


def _fine(text: str, sure: bool) -> Outcome:
    return Outcome("Successful" if sure else "Inconclusive", text, -1.0, "" if sure else UNSURE)
