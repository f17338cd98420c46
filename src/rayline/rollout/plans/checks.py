"""Which plans are refused before anything moves, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayline.config import AnalysisConfig, BackgroundConfig, MetricCondition, Task
from rayline.errors import ConfigError
from rayline.rollout.analysis.limits import CONDITIONS, bounds_of, compares, expressions_of
from rayline.rollout.analysis.measures import BETWEEN_ARMS, BOUNDS, SHADOW, SLICED
from rayline.rollout.plans.steps import Analyse, Ask, Bake, Conclude, MirrorTraffic, PlanStep, RouteHeader, SetWeight


@dataclass
class _At:
    """Where a plan has come to while it is read."""

    weight: int | None = None
    mirror: int = 0


def check(steps: Sequence[PlanStep], background: BackgroundConfig | None, task: Task | None) -> None:
    """Refuse a plan that cannot work.

    Args:
        steps: the compiled steps.
        background: the analysis beside them.
        task: of the model, where it is known.

    Raises:
        ConfigError: with the step and the reason.
    """
    at = _At()
    for position, step in enumerate(steps):
        _check_step(step, f"rollout.steps[{position}]", at, task, steps[position + 1 :])
    if background is not None:
        _check_background(background, steps, task)


def _check_step(step: PlanStep, place: str, at: _At, task: Task | None, after: Sequence[PlanStep]) -> None:
    match step:
        case SetWeight(weight=weight):
            if at.weight is not None and weight <= at.weight:
                raise ConfigError(
                    f"{place}: set_weight {weight} follows {at.weight}. Weights rise from step to step; "
                    "going back is what abort and a failed analysis do."
                )
            at.weight = weight
        case MirrorTraffic(percent=percent):
            at.mirror = percent
        case RouteHeader(header="x-rayline-version" | "x-session-id" | "x-request-id"):
            raise ConfigError(f"{place}: header '{step.header}' has a meaning of its own already. Choose another.")
        case Analyse(config=config):
            _check_analysis(config, place, at, task)
        case Ask(config=asked):
            _check_task(asked.measure, f"{place}, experiment", task)
        case Bake(watch=watch):
            _check_bake(watch, place, at, task, after)
        case Conclude() if after:
            raise ConfigError(f"{place}: nothing can follow the end of a plan.")


def _check_bake(
    watch: AnalysisConfig | None, place: str, at: _At, task: Task | None, after: Sequence[PlanStep]
) -> None:
    if at.weight != 100:
        raise ConfigError(f"{place}: bake follows set_weight {at.weight or 0}. It comes after set_weight 100.")
    if any(isinstance(step, Bake) for step in after):
        raise ConfigError(f"{place}: a plan bakes once, at its end. Remove one of the bake steps.")
    if watch is not None:
        _check_analysis(watch, place, at, task)


def _check_background(background: BackgroundConfig, steps: Sequence[PlanStep], task: Task | None) -> None:
    place = "rollout.background_analysis"
    if background.from_step > len(steps):
        raise ConfigError(f"{place}: from_step {background.from_step} is beyond the last step, {len(steps)}.")
    for condition in background.metrics:
        where = f"{place}, measure '{condition.measure}'"
        _check_limits(condition, where)
        _check_task(condition.measure, where, task)


def _check_analysis(config: AnalysisConfig, place: str, at: _At, task: Task | None) -> None:
    for condition in config.metrics:
        where = f"{place}, measure '{condition.measure}'"
        shadow = condition.measure in SHADOW
        if shadow and not at.mirror:
            raise ConfigError(f"{where}: no request is copied to the canary by then. Put a set_mirror before it.")
        if not shadow and not at.weight and condition.measure not in ("prometheus", "function"):
            raise ConfigError(
                f"{place}: an analysis at weight {at.weight or 0} would never see a request of the canary. "
                f"Put a set_weight above 0 before it, or measure {', '.join(SHADOW)} after a set_mirror."
            )
        _check_limits(condition, where)
        if at.weight == 100 and (condition.measure in BETWEEN_ARMS or compares(condition)):
            raise ConfigError(
                f"{where}: at weight 100 the stable version has no traffic to compare with. Use max or min."
            )
        _check_task(condition.measure, where, task)


def _check_limits(condition: MetricCondition, where: str) -> None:
    measure = condition.measure
    allowed = BOUNDS[measure]
    given = bounds_of(condition)
    wrong = [bound for bound in given if bound not in allowed]
    if wrong:
        raise ConfigError(f"{where}: '{wrong[0]}' cannot bound it. It takes {', '.join(allowed)}.")
    try:
        written = expressions_of(condition)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if not given and not written:
        raise ConfigError(
            f"{where}: no limit is set, so it could never fail. It takes {', '.join((*allowed, *CONDITIONS))}."
        )
    if measure in (*BETWEEN_ARMS, *SHADOW) and compares(condition):
        raise ConfigError(f"{where}: it is one number, not one for each version. Speak of result alone.")
    if condition.by_slice and measure not in SLICED:
        raise ConfigError(f"{where}: it is not counted by slice. by_slice goes with {', '.join(SLICED)}.")
    _check_outside(condition, where)


def _check_outside(condition: MetricCondition, where: str) -> None:
    needs = {"prometheus": "query", "function": "function"}
    for measure, field in needs.items():
        given = getattr(condition, field) is not None
        if condition.measure == measure and not given:
            raise ConfigError(f"{where}: '{field}' is missing.")
        if condition.measure != measure and given:
            raise ConfigError(f"{where}: '{field}' goes with measure: {measure}.")
    if condition.column is not None and condition.measure != "feature_drift":
        raise ConfigError(f"{where}: 'column' goes with measure: feature_drift.")


def _check_task(measure: str, where: str, task: Task | None) -> None:
    if measure == "accuracy" and task == "regression":
        raise ConfigError(f"{where}: this model is a regression. Use 'mean_absolute_error'.")
    if measure == "mean_absolute_error" and task in ("binary", "multiclass"):
        raise ConfigError(f"{where}: this model is a classification. Use 'accuracy'.")
