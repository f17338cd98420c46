"""Where a project stands: read from its storage and from MLflow alone, whether or not anything runs now.

Only the service itself is asked, at its own address, whether it answers. No cluster is started, joined or waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayline import cluster
from rayline.config import Config
from rayline.errors import RaylineError
from rayline.project import Project
from rayline.release import ask, live_url

if TYPE_CHECKING:
    from rayline.rollout.state import RolloutState
    from rayline.serving.traffic.plan import TrafficPlan


@dataclass(frozen=True, slots=True)
class ServiceStanding:
    """A service that was deployed once.

    Attributes:
        url: where clients reach it.
        running: it answers there.
        last_seen: Unix time at which a replica was heard last; None where that is not known.
        replicas: how many were alive then.
        generation: of its traffic plan.
        stable: the version that has the traffic when no rollout runs.
        weights: version number to percent: the traffic that it has, or comes back with.
    """

    url: str
    running: bool
    last_seen: float | None
    replicas: int
    generation: int
    stable: int
    weights: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class StepStanding:
    """A step that was finished last at ``at`` (Unix time) and took ``seconds``."""

    step: str
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class VersionStanding:
    """A registered version; ``created`` is Unix time."""

    number: int
    aliases: tuple[str, ...]
    created: float
    rollout: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a project stands.

    Attributes:
        cluster: the address of the local cluster; None where none runs.
        service: None where it was never deployed.
        rollout: the one under way or the last one; None where there was none.
        steps: the finished steps, in the order in which they were finished.
        versions: the latest first.
        tracking: why MLflow could not be asked for the versions; empty where it was.
    """

    name: str
    storage: str
    cluster: str | None
    service: ServiceStanding | None
    rollout: RolloutState | None
    steps: tuple[StepStanding, ...]
    versions: tuple[VersionStanding, ...]
    tracking: str


def standing(config: Config) -> Standing:
    """Return where a project stands.

    Raises:
        ServiceError: its traffic plan or its rollouts are damaged.
    """
    from rayline.rollout import commands

    project = Project(config)
    project.open_store_early()
    head = cluster.alive(project.storage)
    service = service_standing(config)
    latest = sorted(project.ledger.latest().values(), key=lambda each: each.at)
    steps = tuple(StepStanding(each.step, each.at, each.seconds) for each in latest)
    rollout = commands.last(config.name, storage=project.storage)
    versions, tracking = _versions(project)
    address = head.address if head is not None else None
    return Standing(config.name, str(project.storage), address, service, rollout, steps, versions, tracking)


def service_standing(config: Config) -> ServiceStanding | None:
    """Return how a project's service stands; None where it was never deployed. Raises ``ServiceError``."""
    from rayline.serving.traffic.last_seen import last_seen

    plan = _plan(config)
    if plan is None:
        return None
    url, seen = live_url(config), last_seen(config.storage, config.name)
    return ServiceStanding(
        url,
        _answers(config, url),
        seen.at if seen is not None else None,
        seen.replicas if seen is not None else 0,
        plan.generation,
        plan.stable,
        {number: weight for number, weight in plan.weights.items() if weight},
    )


def _plan(config: Config) -> TrafficPlan | None:
    from rayline.serving.names import plan_path
    from rayline.serving.traffic.plan_file import PlanFile

    return PlanFile(plan_path(config.storage, config.name)).read().plan


def _answers(config: Config, url: str) -> bool:
    try:
        return ask(url, config.service.access) is not None
    except RaylineError:  # another program, or a service that does not let us in: nothing of it can be told
        return False


def _versions(project: Project) -> tuple[tuple[VersionStanding, ...], str]:
    try:
        found = project.store.versions(project.config.name)
    except RaylineError as error:
        return (), str(error)
    said = [VersionStanding(each.number, each.aliases, each.created, each.tags.get(ROLLOUT, "")) for each in found]
    return tuple(sorted(said, key=lambda each: -each.number)), ""


ROLLOUT = "rayline.rollout"
"""The tag that tells how a version's last rollout ended."""
