"""What each strategy is made of: a configuration's ``rollout`` section becomes steps. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import UNSET
from msgspec.structs import replace

from rayline.config import (
    AnalysisConfig,
    BakeConfig,
    BlueGreenConfig,
    LinearConfig,
    MetricCondition,
    MirrorConfig,
    PauseConfig,
    RolloutConfig,
    RouteConfig,
    ShadowConfig,
    Step,
)
from rayline.errors import ConfigError
from rayline.rollout.analysis.limits import RELATIVE, bounds_of, compares
from rayline.rollout.analysis.measures import BETWEEN_ARMS, SHADOW
from rayline.rollout.plans.steps import (
    Analyse,
    Ask,
    Bake,
    Conclude,
    MirrorTraffic,
    Pause,
    PlanStep,
    RouteHeader,
    SetWeight,
)

DEFAULT_ANALYSIS = AnalysisConfig(
    metrics=(
        MetricCondition(measure="error_rate", max=0.01),
        MetricCondition(measure="latency", quantile=0.95, max_ratio=2.0),
        MetricCondition(measure="prediction_shift", max=0.3),
    )
)

SHADOW_ANALYSIS = AnalysisConfig(
    metrics=(
        MetricCondition(measure="shadow_error_rate", max=0.01),
        MetricCondition(measure="agreement", min=0.95),
    )
)

OWN_STEPS = ("canary",)
"""Strategies whose steps a configuration writes; the others make them of their own settings."""

SECTIONS = ("blue_green", "linear", "shadow", "experiment")

if TYPE_CHECKING:
    Steps = list[PlanStep]


def steps_of(config: RolloutConfig) -> tuple[PlanStep, ...]:
    """Return the steps of a configuration, not yet checked.

    Raises:
        ConfigError: settings of another strategy are given, or some that this one needs are missing.
    """
    strategy = config.strategy
    if config.steps and strategy not in OWN_STEPS:
        raise ConfigError(f"rollout.steps: '{strategy}' has no steps. Remove them, or use strategy: canary.")
    for section in SECTIONS:
        if section != strategy and getattr(config, section) is not None:
            raise ConfigError(f"rollout.{section}: these settings need strategy: {section}, not {strategy}.")
    steps = _MADE[strategy](config)
    ends = any(isinstance(step, Conclude) for step in steps)
    if not ends and SetWeight(100) not in steps:
        steps.append(SetWeight(100))
    if config.bake:
        if ends:
            raise ConfigError(f"rollout.bake: strategy {strategy} moves no traffic as it is set. Remove bake.")
        if any(isinstance(step, Bake) for step in steps):
            raise ConfigError("rollout.bake: there is a bake step already. Remove one of them.")
        steps.append(Bake(config.bake, watched(config.analysis)))
    return tuple(steps)


def watched(analysis: AnalysisConfig | None) -> AnalysisConfig | None:
    """Return the part of an analysis that can still be judged with all traffic on the canary; None where none can."""
    if analysis is None:
        return None
    metrics = tuple(
        replace(condition, **dict.fromkeys(RELATIVE), by_slice=condition.by_slice)
        for condition in analysis.metrics
        if _alone(condition)
    )
    return replace(analysis, metrics=metrics) if metrics else None


def _alone(condition: MetricCondition) -> bool:
    if condition.measure in (*BETWEEN_ARMS, *SHADOW):
        return False
    alone = replace(condition, **dict.fromkeys(RELATIVE))
    limited = bool(bounds_of(alone)) or bool(alone.success_condition or alone.failure_condition)
    return limited and not compares(alone)


def _all_at_once(_: RolloutConfig) -> Steps:
    return [SetWeight(100)]


def _canary(config: RolloutConfig) -> Steps:
    analysis = config.analysis or DEFAULT_ANALYSIS
    if config.steps:
        return [_compiled(step, analysis, config.analysis) for step in config.steps]
    return [SetWeight(10), Analyse(analysis), SetWeight(50), Analyse(analysis)]


def _linear(config: RolloutConfig) -> Steps:
    linear = config.linear or LinearConfig()
    steps: Steps = []
    for weight in range(linear.step_weight, 100, linear.step_weight):
        steps.append(SetWeight(weight))
        if linear.interval:
            steps.append(Pause(linear.interval))
        if linear.analysis:
            steps.append(Analyse(config.analysis or DEFAULT_ANALYSIS))
    return steps


def _blue_green(config: RolloutConfig) -> Steps:
    settings = config.blue_green or BlueGreenConfig()
    steps: Steps = [RouteHeader(settings.preview.header.lower(), settings.preview.value)]
    if settings.pre_promotion is not None:
        steps += [MirrorTraffic(100), Analyse(settings.pre_promotion), MirrorTraffic(0)]
    if settings.auto_promotion is False:
        steps.append(Pause(None))
    elif settings.auto_promotion is not True and float(settings.auto_promotion) > 0:
        steps.append(Pause(float(settings.auto_promotion)))
    steps.append(SetWeight(100))
    if settings.scale_down_delay or settings.post_promotion is not None:
        steps.append(Bake(settings.scale_down_delay, settings.post_promotion))
    return steps


def _shadow(config: RolloutConfig) -> Steps:
    settings = config.shadow or ShadowConfig()
    steps: Steps = [MirrorTraffic(settings.percent), Analyse(config.analysis or SHADOW_ANALYSIS), MirrorTraffic(0)]
    return steps if settings.promote else [*steps, Conclude()]


def _experiment(config: RolloutConfig) -> Steps:
    if config.experiment is None:
        raise ConfigError(
            "rollout.experiment is missing: strategy experiment needs its question, for instance "
            "experiment: {measure: accuracy, winner: report}."
        )
    steps: Steps = [SetWeight(config.experiment.weight), Ask(config.experiment)]
    return steps if config.experiment.winner == "promote" else [*steps, Conclude()]


_MADE: dict[str, Callable[[RolloutConfig], Steps]] = {
    "all_at_once": _all_at_once,
    "blue_green": _blue_green,
    "canary": _canary,
    "linear": _linear,
    "shadow": _shadow,
    "experiment": _experiment,
}


def _compiled(step: Step, analysis: AnalysisConfig, given: AnalysisConfig | None) -> PlanStep:
    if step.set_weight is not None:
        return SetWeight(step.set_weight)
    if step.pause is not None:
        return _pause(step)
    if step.set_mirror is not None:
        mirror = step.set_mirror
        return MirrorTraffic(mirror.percent if isinstance(mirror, MirrorConfig) else mirror)
    if step.bake is not None:
        if isinstance(step.bake, BakeConfig):
            return Bake(step.bake.duration, step.bake.analysis or watched(given))
        return Bake(float(step.bake), watched(given))
    if step.set_header_route is not UNSET:
        route = step.set_header_route
        return RouteHeader(route.header.lower(), route.value) if isinstance(route, RouteConfig) else RouteHeader(None)
    return Analyse(step.analysis if isinstance(step.analysis, AnalysisConfig) else analysis)


def _pause(step: Step) -> Pause:
    if isinstance(step.pause, PauseConfig):
        return Pause(step.pause.duration)
    assert step.pause is not None
    return Pause(None if step.pause is True else float(step.pause))
