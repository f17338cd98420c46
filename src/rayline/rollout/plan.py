"""The steps by which a canary takes over, compiled from a configuration and checked before anything moves. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from msgspec import Struct

from rayline.config import AnalysisConfig, MetricCondition, RolloutConfig, Step, Task, parse
from rayline.errors import ConfigError, NotFoundError
from rayline.rollout.steps import Analyse, Pause, PlanStep, SetWeight

__all__ = ["Analyse", "Pause", "Plan", "PlanStep", "SetWeight", "load_plan"]

BOUNDS: dict[str, tuple[str, ...]] = {
    "error_rate": ("max", "max_increase", "max_ratio"),
    "latency": ("max", "max_increase", "max_ratio"),
    "prediction_shift": ("max",),
    "accuracy": ("min", "max_decrease"),
    "mean_absolute_error": ("max", "max_increase", "max_ratio"),
}
"""Which limits make sense for a measure; the others would let a worse version pass."""

ALL_BOUNDS = ("max", "min", "max_increase", "max_decrease", "max_ratio")
RELATIVE = ("max_increase", "max_decrease", "max_ratio")

DEFAULT_ANALYSIS = AnalysisConfig(
    metrics=(
        MetricCondition(measure="error_rate", max=0.01),
        MetricCondition(measure="latency", quantile=0.95, max_ratio=2.0),
        MetricCondition(measure="prediction_shift", max=0.3),
    )
)


class Plan(Struct, frozen=True):
    """What a rollout will do, in order. The last weight of ``steps`` is always 100.

    Attributes:
        strategy: ``all_at_once`` or ``canary``.
        steps: at least one.
    """

    strategy: str
    steps: tuple[PlanStep, ...]

    @classmethod
    def from_config(cls, config: RolloutConfig, task: Task | None = None) -> Plan:
        """Compile a configuration's ``rollout`` section.

        Without ``steps``, a canary gets 10 %, an analysis, 50 %, an analysis, 100 %. Weights that end below 100 are
        followed by 100. ``analysis: true`` without an ``analysis`` section measures error rate, latency and
        prediction shift.

        Args:
            config: the section.
            task: of the model, where it is known: some measures make sense for one kind of task only.

        Raises:
            ConfigError: the plan cannot work, with the step and the reason.
        """
        if config.strategy == "all_at_once":
            if config.steps:
                raise ConfigError("rollout.steps: 'all_at_once' has no steps. Remove them, or use strategy: canary.")
            return cls.at_once()
        analysis = config.analysis or DEFAULT_ANALYSIS
        if config.steps:
            compiled = [_compiled(step, analysis) for step in config.steps]
        else:
            compiled = [SetWeight(10), Analyse(analysis), SetWeight(50), Analyse(analysis)]
        if not any(isinstance(step, SetWeight) and step.weight == 100 for step in compiled):
            compiled.append(SetWeight(100))
        _check(compiled, task)
        return cls("canary", tuple(compiled))

    @classmethod
    def at_once(cls) -> Plan:
        """Return the plan that gives the canary all traffic in one step."""
        return cls("all_at_once", (SetWeight(100),))


def load_plan(path: str | Path) -> RolloutConfig:
    """Read a file that holds the keys of a configuration's ``rollout`` section.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it is not YAML, or a key, a value or the plan as a whole is wrong.
    """
    file = Path(path)
    if not file.is_file():
        raise NotFoundError(f"rollout plan '{file}' does not exist.")
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"rollout plan '{file}' is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"rollout plan '{file}' must be a mapping with 'strategy' or 'steps', as in configs/rollout.")
    required = {"name": "plan", "data": {"source": "plan"}, "features": {"target": "plan"}}
    config = parse({**required, "rollout": raw}).rollout
    Plan.from_config(config)
    return config


def _compiled(step: Step, analysis: AnalysisConfig) -> PlanStep:
    if step.set_weight is not None:
        return SetWeight(step.set_weight)
    if step.pause is not None:
        return Pause(None if step.pause is True else float(step.pause))  # type: ignore[arg-type]
    return Analyse(step.analysis if isinstance(step.analysis, AnalysisConfig) else analysis)


def _check(steps: Sequence[PlanStep], task: Task | None) -> None:
    weight: int | None = None
    for position, step in enumerate(steps):
        place = f"rollout.steps[{position}]"
        if isinstance(step, SetWeight):
            if weight is not None and step.weight <= weight:
                raise ConfigError(
                    f"{place}: set_weight {step.weight} follows {weight}. Weights rise from step to step; "
                    "going back is what abort and a failed analysis do."
                )
            weight = step.weight
        elif isinstance(step, Analyse):
            if not weight:
                raise ConfigError(
                    f"{place}: an analysis at weight {weight or 0} would never see a request of the canary. "
                    "Put a set_weight above 0 before it."
                )
            for condition in step.config.metrics:
                _check_condition(condition, place, weight, task)


def _check_condition(condition: MetricCondition, place: str, weight: int, task: Task | None) -> None:
    measure = condition.measure
    where = f"{place}, measure '{measure}'"
    allowed = BOUNDS[measure]
    given = [bound for bound in ALL_BOUNDS if getattr(condition, bound) is not None]
    wrong = [bound for bound in given if bound not in allowed]
    if wrong:
        raise ConfigError(f"{where}: '{wrong[0]}' cannot bound it. It takes {', '.join(allowed)}.")
    if not given:
        raise ConfigError(f"{where}: no limit is set, so it could never fail. It takes {', '.join(allowed)}.")
    compares = measure == "prediction_shift" or any(bound in RELATIVE for bound in given)
    if weight == 100 and compares:
        raise ConfigError(f"{where}: at weight 100 the stable version has no traffic to compare with. Use max or min.")
    if measure == "accuracy" and task == "regression":
        raise ConfigError(f"{where}: this model is a regression. Use 'mean_absolute_error'.")
    if measure == "mean_absolute_error" and task in ("binary", "multiclass"):
        raise ConfigError(f"{where}: this model is a classification. Use 'accuracy'.")
