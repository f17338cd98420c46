"""What a run would do: its steps, which of them are cached, and what they need against what there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rayline import blessing
from rayline.capacity import Capacity
from rayline.config import Config
from rayline.preflight import Verdict, judged, needs_of
from rayline.project import Project
from rayline.readiness import STEPS, held_by, seen_capacity
from rayline.release import live_of, live_url, taken_back


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step to come.

    Attributes:
        needs: what it takes of the cluster, and what becomes of that; empty of a step that takes nothing, or is cached.
    """

    step: str
    cached: bool
    why: str
    needs: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    """A run to come, and what there is to run on."""

    name: str
    steps: tuple[PlannedStep, ...]
    capacity: Capacity

    @property
    def refused(self) -> bool:
        """Whether the run would refuse to start."""
        return any(need.refused for step in self.steps for need in step.needs)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON-ready values."""
        return {
            "name": self.name,
            "refused": self.refused,
            "steps": [
                {
                    "step": each.step,
                    "cached": each.cached,
                    "why": each.why,
                    "needs": [_need(need) for need in each.needs],
                }
                for each in self.steps
            ],
            "cluster": asdict(self.capacity),
        }


def preview(config: Config) -> Preview:
    """Return the steps that `run` would take, and what they need against what there is, without starting Ray.

    A cluster that was named or runs already is asked; without one this machine is what there is.

    Raises:
        DataError: the source cannot be used.
        ClusterError: a cluster was named and cannot be reached.
    """
    project = Project(config)
    live = live_of(config)
    steps = _steps(project, live)
    capacity = seen_capacity(project)
    to_come = {step.step for step in steps if not step.cached and _takes_room(step)} & set(STEPS)
    verdicts = judged(needs_of(config, to_come, capacity, held_by(config, live)), capacity)
    told = tuple(
        PlannedStep(each.step, each.cached, each.why, tuple(one for one in verdicts if one.need.step == each.step))
        for each in steps
    )
    return Preview(config.name, told, capacity)


def _takes_room(step: PlannedStep) -> bool:
    return "refused" not in step.why and "the run ends here" not in step.why


def _steps(project: Project, live: Mapping[str, Any] | None) -> tuple[PlannedStep, ...]:
    config = project.config
    steps: list[PlannedStep] = []
    for step in project.because:
        if step != ("tune" if config.tune is None else "train"):
            cached = project.find(step, *_besides(project, step)) is not None
            steps.append(PlannedStep(step, cached, _why(config, step, cached)))
    if not all(step.cached for step in steps):
        return (*steps, _release_step(project, None, live))
    judged, registered = (project.find(step, *_besides(project, step)) for step in ("bless", "register"))
    assert judged is not None
    assert registered is not None
    version = registered.result["version"]
    if not judged.result.get("blessed", True):
        why = f"version {version} is not blessed: the run ends here, unless you let it past its gates by --force"
        return (*steps, PlannedStep("release", False, why))
    return (*steps, _release_step(project, version, live))


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
    where = {"train": _training_place(config), "tune": _study(config)}.get(step, "")
    return where or ("" if step in STEPS else "not done with these inputs and settings")


def _release_step(project: Project, version: int | None, live: Mapping[str, Any] | None) -> PlannedStep:
    """Compare what is live with the version that the run would release; None is one that has no number yet."""
    config = project.config
    all_traffic = live is not None and live["stable"] == version and live["weights"] == {str(version): 100}
    if version is not None and not all_traffic and (reason := taken_back(project, version)) is not None:
        way_out = f"insist with `rayline rollout start {config.name} --version {version}`"
        return PlannedStep("release", False, f"version {version} was taken back and is refused: {reason}; {way_out}")
    if live is None:
        return PlannedStep("release", False, "no service is live: the version gets all traffic at once")
    if all_traffic:
        return PlannedStep("release", True, f"version {version} has all traffic at {live_url(config)}")
    return PlannedStep("release", False, _move(config, live, version))


def _move(config: Config, live: Mapping[str, Any], version: int | None) -> str:
    stable, strategy = live["stable"], config.rollout.strategy
    others = [number for number in live["weights"] if number != str(stable)]
    if version is not None and str(version) in others:
        return f"version {stable} serves, version {version} {live['weights'][str(version)]} %: the rollout is followed"
    if others:
        return f"version {stable} serves and a rollout to version {', '.join(others)} is under way: it must end first"
    to = "" if version is None else f" to version {version}"
    return f"version {stable} serves: a rollout{to} follows ({strategy})"


def _study(config: Config) -> str:
    return "" if config.tune is None else f"{config.tune.trials} trials, {config.tune.sampler}"


def _training_place(config: Config) -> str:
    """Tell where the training runs."""
    train = config.train
    if not train.alone:
        least, most = train.workers
        return f"{most} workers" if least == most else f"{least} to {most} workers, as many as there is room for"
    if train.use_gpu is False:
        return "in this process"
    return "in this process, on its GPU" + ("" if train.use_gpu is True else " where it has one")


def _need(verdict: Verdict) -> dict[str, Any]:
    need = verdict.need
    return {
        "what": need.what,
        "each": dict(need.each),
        "least": need.least,
        "most": need.most,
        "labels": dict(need.labels),
        "outcome": verdict.outcome,
        "words": verdict.words,
        "way_out": verdict.way_out,
        "new_nodes": dict(verdict.new),
    }
