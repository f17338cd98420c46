"""What a run would do: its steps, which of them are cached, and what they need of Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayline import blessing
from rayline.config import Config
from rayline.project import Project
from rayline.release import ask, service_url, taken_back


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
    steps: list[PlannedStep] = []
    for step in project.because:
        if step != ("tune" if config.tune is None else "train"):
            cached = project.find(step, *_besides(project, step)) is not None
            steps.append(PlannedStep(step, cached, needs.get(step, 0.0), _why(config, step, cached)))
    if not all(step.cached for step in steps):
        return (*steps, _release_step(project, None))
    judged, registered = (project.find(step, *_besides(project, step)) for step in ("bless", "register"))
    assert judged is not None
    assert registered is not None
    version = registered.result["version"]
    if not judged.result.get("blessed", True):
        why = f"version {version} is not blessed: the run ends here, unless you let it past its gates by --force"
        return (*steps, PlannedStep("release", False, 0.0, why))
    return (*steps, _release_step(project, version))


def _besides(project: Project, step: str) -> tuple[str | None, ...]:
    """Return what decides a step beside the configuration: who the champion is, and how it was judged beside it."""
    if step not in ("bless", "register"):
        return ()
    scored = project.find("evaluate")
    digest = None
    if scored is not None and "bundle" in scored.result:
        digest = blessing.digest_of(blessing.rival_of(project, Path(scored.result["bundle"])))
    return (digest,) if step == "bless" else (project.key("bless", digest),)


def _why(config: Config, step: str, cached: bool) -> str:
    if cached:
        return "its inputs and settings are as they were"
    needs = {"tune": _room, "train": _training_room}.get(step)
    return "not finished with these inputs and settings" + (f"; {needs(config)}" if needs is not None else "")


def _release_step(project: Project, version: int | None) -> PlannedStep:
    """Compare what is live with the version that the run would release; None is one that has no number yet."""
    config = project.config
    live = ask(service_url(config))
    cpus = config.service.replicas * config.service.num_cpus
    all_traffic = live is not None and live["stable"] == version and live["weights"] == {str(version): 100}
    if version is not None and not all_traffic and (reason := taken_back(project, version)) is not None:
        way_out = f"insist with `rayline rollout start {config.name} --version {version}`"
        return PlannedStep(
            "release", False, 0.0, f"version {version} was taken back and is refused: {reason}; {way_out}"
        )
    if live is None:
        return PlannedStep("release", False, cpus, "no service is live: the version gets all traffic at once")
    if all_traffic:
        return PlannedStep("release", True, 0.0, f"version {version} has all traffic")
    return PlannedStep("release", False, 0.0, _move(config, live, version))


def _move(config: Config, live: Mapping[str, Any], version: int | None) -> str:
    stable, strategy = live["stable"], config.rollout.strategy
    others = [number for number in live["weights"] if number != str(stable)]
    if version is not None and str(version) in others:
        return f"version {stable} serves, version {version} {live['weights'][str(version)]} %: the rollout is followed"
    if others:
        return f"version {stable} serves and a rollout to version {', '.join(others)} is under way: it must end first"
    to = "" if version is None else f" to version {version}"
    return f"version {stable} serves: a rollout{to} follows ({strategy})"


def _training_cpus(config: Config) -> float:
    return float(config.train.workers[1]) if not config.train.alone else 0.0


def _tuning_cpus(config: Config) -> float:
    """Return what the Study takes at once: of this machine what fits; of a cluster elsewhere what was asked for."""
    if config.tune is None:
        return 0.0
    each, wanted = _trial_cpus(config), config.tune.max_concurrent
    fitting = (wanted or 1) if _elsewhere() else max(int(_cpus_here() // each), 1)
    return each * min(fitting, wanted or fitting, config.tune.trials)


def _trial_cpus(config: Config) -> float:
    assert config.tune is not None
    return config.tune.cpus_per_trial if config.train.alone else float(config.train.workers[1])


def _room(config: Config) -> str:
    each = _trial_cpus(config)
    needs = f"one trial needs {each:g} CPUs"
    if _elsewhere():
        return f"{needs} of the cluster"
    if each > _cpus_here():
        return f"{needs} and this machine has {_cpus_here()}: too few"
    return f"{needs}, this machine has {_cpus_here()}"


def _training_room(config: Config) -> str:
    """Tell what the training takes: where, how many workers of which kind, and whether this machine has room."""
    train = config.train
    kind = "1 CPU and 1 GPU" if train.use_gpu is True else "1 CPU"
    gpus = ", GPUs where the cluster has one for each" if train.use_gpu == "auto" else ""
    if train.alone:
        where = (
            "" if train.use_gpu is False else ", on its GPU" + ("" if train.use_gpu is True else " where it has one")
        )
        return f"in this process{where}"
    least, most = train.workers
    workers = f"{most} workers" if least == most else f"{least} to {most} workers, as many as there is room for"
    needs = f"{workers}, each with {kind}{gpus}"
    if _elsewhere():
        return needs
    return f"{needs}; this machine has {_cpus_here()} CPUs{': too few' if least > _cpus_here() else ''}"


def _elsewhere() -> bool:
    return bool(os.environ.get("RAY_ADDRESS"))


def _cpus_here() -> int:
    return os.cpu_count() or 1
