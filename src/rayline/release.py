"""The last step of a flow: a version meets live traffic, at once where it is the first, else by a rollout."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rayline.config import Config, RolloutConfig
from rayline.errors import RolloutRefused, ServiceError
from rayline.events import Finished, RolloutMoved, Started
from rayline.project import Project

if TYPE_CHECKING:
    from rayline.rollout.state import RolloutState
    from rayline.serving.plan import LiveVersion


@dataclass(frozen=True, slots=True)
class Released:
    """What a release ended in: the phase in Argo Rollouts' words, and the service's address."""

    version: int
    phase: str
    message: str
    url: str


def release(project: Project, version: int, *, plan: RolloutConfig | None = None, insist: bool = False) -> Released:
    """Bring a version to live traffic and follow it until it is stable, stopped or waiting for a person.

    Args:
        project: whose service it is.
        version: a registered version's number.
        plan: the steps; default: the configuration's.
        insist: try even a version that was taken back before.

    Raises:
        RolloutRefused: this version was taken back before, or another rollout is under way.
        ServiceError: the service did not come up.
    """
    url = service_url(project.config)
    live = ask(url)
    if live is not None and live["stable"] == version and list(live["weights"].values()) == [100]:
        project.listener(Finished("release", 0.0, True, f"version {version} has all traffic at {url}"))
        return Released(version, "Healthy", "all traffic", url)
    if not insist:
        _refuse_taken_back(project, version)
    project.connect()
    project.listener(Started("release"))
    if live is None:
        return _first(project, version, url)
    return follow(project, start(project, version, plan=plan))


def start(project: Project, version: int, *, plan: RolloutConfig | None = None) -> RolloutState:
    """Start a rollout to a registered version. Raises ``RolloutRefused`` while another is under way."""
    from rayline.rollout import commands

    config = project.config
    return commands.start(
        config.name,
        storage=str(project.storage),
        rollout=plan or config.rollout,
        version=live_version(project, version),
        tracking_uri=config.registry.tracking_uri,
        experiment=config.registry.experiment or config.name,
    )


def follow(project: Project, state: RolloutState) -> Released:
    """Tell each change of a rollout until it ends or waits for a person."""
    from rayline.rollout import commands

    said: tuple[int, str] | None = None
    for state in commands.watch(project.config.name, storage=str(project.storage)):
        if said != (state.weight, state.message):
            said = (state.weight, state.message)
            project.listener(RolloutMoved(state.phase, state.stable, state.canary, state.weight, state.message))
    ended = Released(state.canary, state.phase, state.message, service_url(project.config))
    project.listener(Finished("release", state.seconds, False, f"{state.phase}: {state.message}"))
    return ended


def _first(project: Project, version: int, url: str) -> Released:
    from rayline.serving.service import deploy

    config = project.config
    service = deploy(config.name, config.service, str(project.storage), live_version(project, version))
    project.store.set_alias(config.name, "champion", version)
    answer = f"version {version} is the first: it has all traffic at {service.url}"
    project.listener(Finished("release", service.seconds_to_ready, False, answer))
    return Released(version, "Healthy", answer, service.url)


def live_version(project: Project, number: int) -> LiveVersion:
    """Fetch a registered version to where every replica can read it."""
    from rayline.registry.bundle import Bundle
    from rayline.serving.plan import LiveVersion

    version = project.store.version(project.config.name, str(number))
    bundle = Bundle.load(project.store.fetch(version, project.storage / "served"))
    return LiveVersion(number=version.number, path=str(bundle.path), digest=bundle.digest)


def service_url(config: Config) -> str:
    """Return the address of the project's service."""
    service = config.service
    host = "127.0.0.1" if service.host == "0.0.0.0" else service.host
    return f"http://{host}:{service.port}/{config.name}"


def ask(url: str) -> dict[str, Any] | None:
    """Return what a service says of itself, or None where nothing answers there.

    Raises:
        ServiceError: something answers, but it is not a Rayline service.
    """
    try:
        with urllib.request.urlopen(f"{url}/", timeout=5) as answer:
            said = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (404, 503):
            return None
        raise ServiceError(f"the service at {url} answered {error.code}: {error.reason}.") from error
    except (OSError, ValueError):
        return None
    if not isinstance(said, dict) or "stable" not in said:
        raise ServiceError(f"what answers at {url} is not a Rayline service; choose another service.port.")
    return said


def _refuse_taken_back(project: Project, version: int) -> None:
    from rayline.rollout import commands

    name = project.config.name
    state = commands.last(name, storage=str(project.storage))
    if state is None:
        return
    undone = state.kind == "undo" and state.phase == "Healthy" and state.stable == version
    if undone or (state.phase == "Degraded" and state.canary == version):
        raise RolloutRefused(
            f"version {version} of '{name}' was taken back: {state.message}. Change the configuration and run again, "
            f"or insist with `rayline rollout start {name} --version {version}`."
        )
