"""The steps by which a canary takes over, compiled from a configuration and checked before anything moves. Pure."""

from __future__ import annotations

from pathlib import Path

import yaml
from msgspec import Struct

from rayline.config import BackgroundConfig, Placement, RolloutConfig, Task, parse
from rayline.config.reading import read_yaml
from rayline.errors import ConfigError, NotFoundError
from rayline.rollout.plans.checks import check
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
from rayline.rollout.plans.strategies import DEFAULT_ANALYSIS, steps_of

__all__ = [
    "DEFAULT_ANALYSIS",
    "Analyse",
    "Ask",
    "Bake",
    "Conclude",
    "MirrorTraffic",
    "Pause",
    "Plan",
    "PlanStep",
    "RouteHeader",
    "SetWeight",
    "load_plan",
]


class Plan(Struct, frozen=True):
    """What a rollout will do, in order.

    Attributes:
        strategy: such as ``canary``.
        steps: at least one. The last weight is 100, but where the steps end with ``Conclude``.
        background: an analysis beside the steps.
        placement: of the canary while it is tried; None leaves it as it was given.
        progress_deadline: seconds for which nothing may stand still.
        confidence: one less the chance to fail a canary that keeps its limits, over the whole rollout.
        rollback_window: how many earlier stable versions may come back without steps.
    """

    strategy: str
    steps: tuple[PlanStep, ...]
    background: BackgroundConfig | None = None
    placement: Placement | None = None
    progress_deadline: float = 600.0
    confidence: float = 0.95
    rollback_window: int = 3

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
        steps = steps_of(config)
        check(steps, config.background_analysis, task)
        return cls(
            config.strategy,
            steps,
            background=config.background_analysis,
            placement=config.placement,
            progress_deadline=config.progress_deadline,
            confidence=config.confidence,
            rollback_window=config.rollback_window,
        )

    @classmethod
    def at_once(cls) -> Plan:
        """Return the plan that gives the canary all traffic in one step."""
        return cls("all_at_once", (SetWeight(100),))

    @property
    def moves(self) -> bool:
        """Whether the canary is to take over in the end, or is only to be asked."""
        return not isinstance(self.steps[-1], Conclude)

    @property
    def alpha(self) -> float:
        """The chance that each of its analyses has to fail a canary that keeps its limits; together they use it up."""
        watches = (isinstance(step, Bake) and step.watch is not None for step in self.steps)
        tests = sum(isinstance(step, Analyse) for step in self.steps) + sum(watches) + (self.background is not None)
        return (1 - self.confidence) / max(1, tests)


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
        raw = read_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"rollout plan '{file}' is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"rollout plan '{file}' must be a mapping with 'strategy' or 'steps', as in configs/rollout.")
    required = {"name": "plan", "data": {"source": "plan"}, "features": {"target": "plan"}}
    config = parse({**required, "rollout": raw}).rollout
    Plan.from_config(config)
    return config
