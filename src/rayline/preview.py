"""What a run would do: its steps, which of them are cached, and what they need of Ray."""

from __future__ import annotations

from dataclasses import dataclass

from rayline.config import Config
from rayline.project import Project
from rayline.release import ask, service_url


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step to come. ``cpus`` is what it asks of the cluster at once."""

    step: str
    cached: bool
    cpus: float
    why: str


def preview(config: Config) -> tuple[PlannedStep, ...]:
    """Return the steps that `run` would take, without starting Ray. Raises ``DataError`` for an unusable source."""
    project = Project(config)
    needs = {"features": 1.0, "train": _training_cpus(config), "tune": _tuning_cpus(config)}
    steps = [
        PlannedStep(
            step,
            cached := project.find(step) is not None,
            needs.get(step, 0.0),
            "its inputs and settings are as they were" if cached else "not finished with these inputs and settings",
        )
        for step in project.because
        if step != ("tune" if config.tune is None else "train")
    ]
    return (*steps, _release_step(config, all(step.cached for step in steps)))


def _release_step(config: Config, registered: bool) -> PlannedStep:
    live = ask(service_url(config))
    cpus = config.service.replicas * config.service.num_cpus
    if live is None:
        return PlannedStep("release", False, cpus, "no service is live: the version gets all traffic at once")
    if registered:
        return PlannedStep("release", True, 0.0, f"version {live['stable']} serves")
    strategy = config.rollout.strategy
    return PlannedStep("release", False, 0.0, f"version {live['stable']} serves: a rollout follows ({strategy})")


def _training_cpus(config: Config) -> float:
    return float(config.train.num_workers) if config.train.num_workers > 1 else 0.0


def _tuning_cpus(config: Config) -> float:
    if config.tune is None:
        return 0.0
    return config.tune.cpus_per_trial * (config.tune.max_concurrent or 1)
