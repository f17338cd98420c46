"""The last step of a flow: a version meets live traffic, at once where it is the first, else by a rollout."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rayline import blessing, cluster, readiness, storage
from rayline.config import AccessConfig, Config, RolloutConfig, changes
from rayline.errors import RolloutRefused, ServiceError, UsageError
from rayline.events import Finished, Notice, RolloutMoved, Started
from rayline.project import Project

if TYPE_CHECKING:
    from rayline.rollout.state import RolloutState
    from rayline.serving.service import Service
    from rayline.serving.traffic.plan import LiveVersion

NO_ACCESS = AccessConfig()


@dataclass(frozen=True, slots=True)
class Released:
    """What a release ended in: the phase in Argo Rollouts' words, and the service's address.

    Attributes:
        ok: nothing said no: it has all traffic, or waits where its plan or a person told it to.
    """

    version: int
    phase: str
    message: str
    url: str
    ok: bool


def release(
    project: Project,
    version: int,
    *,
    plan: RolloutConfig | None = None,
    insist: bool = False,
    force: str | None = None,
) -> Released:
    """Bring a version to live traffic and follow it until it is stable, stopped or waiting for a person.

    A service that does not run comes back with the traffic that it had, and only then does anything move. A rollout to
    this version that is under way already is followed.

    Args:
        project: whose service it is.
        version: a registered version's number.
        plan: the steps; default: the configuration's.
        insist: try even a version that was taken back before.
        force: why a version that is not blessed gets traffic all the same; kept with the version.

    Raises:
        GateRefused: its gates said no, and there is no ``force``.
        RolloutRefused: this version was taken back before, or another rollout is under way.
        ServiceError: the service did not come up.
    """
    _tell_what_needs_a_restart(project)
    url = live_url(project.config)
    if _has_all_traffic(ask(url, project.config.service.access), version):
        return _already(project, version, url)
    if not insist:
        _refuse_taken_back(project, version)
    let_past = blessing.allow(project, version, force)
    look_ahead(project)
    project.connect()
    project.listener(Started("release"))
    began = time.perf_counter()
    service = _running(project, version)
    if _has_all_traffic(ask(service.url, project.config.service.access), version):
        if _without_champion(project):
            return _first(project, version, service.url, time.perf_counter() - began)
        return _already(project, version, service.url)
    return follow(project, _started_or_found(project, version, plan, let_past))


def _running(project: Project, version: int) -> Service:
    from rayline.serving.service import deploy

    config = project.config
    return deploy(
        config.name,
        config.service,
        str(project.storage),
        live_version(project, version),
        serve_on=config.cluster.serve_on,
        remote_on=config.cluster.remote_on,
    )


def _without_champion(project: Project) -> bool:
    return all("champion" not in each.aliases for each in project.store.versions(project.config.name))


def _started_or_found(project: Project, version: int, plan: RolloutConfig | None, let_past: str) -> RolloutState:
    """Start a rollout, or find the one to this version that an earlier driver started."""
    from rayline.rollout import commands

    try:
        return _start(project, version, plan, let_past)
    except RolloutRefused:
        state = commands.last(project.config.name, storage=str(project.storage))
        under_way = state is not None and not state.settled and (state.kind, state.canary) == ("rollout", version)
        if plan is None and state is not None and under_way:
            return state
        raise


def _has_all_traffic(live: Mapping[str, Any] | None, version: int) -> bool:
    return live is not None and live["stable"] == version and live["weights"] == {str(version): 100}


def _already(project: Project, version: int, url: str) -> Released:
    message = f"version {version} has all traffic at {url}"
    project.listener(Finished("release", 0.0, True, message))
    return Released(version, "Healthy", message, url, True)


def look_ahead(project: Project, steps: Collection[str] = (), *, release: bool = True) -> None:
    """Refuse what can never work before any work is done for it: too small a cluster, a service address that is taken.

    Args:
        project: what is to run.
        steps: those before the release that will.
        release: whether a version is to get traffic.

    Raises:
        NeverFits: the cluster can never hold one of the steps, or does not see the storage folder.
        ConfigError, NotFoundError, ClusterError, ServiceError: as ``check_address``.
    """
    if release:
        check_address(project)
    readiness.refuse_what_never_fits(project, {*steps, "release"} if release else steps, live_of(project.config))


def live_of(config: Config) -> dict[str, Any] | None:
    """Return what a project's service says of itself, None where it does not run or something else answers there."""
    with suppress(ServiceError, UsageError):
        return ask(live_url(config), config.service.access)
    return None


def check_address(project: Project) -> None:
    """Refuse a service address that another program holds, before any work is done for it.

    Raises:
        ConfigError, NotFoundError: others could reach it without a token, or a token's file is not as it must be.
        ClusterError: the port is taken.
        ServiceError: something answers there, and it is not a Rayline service.
    """
    from rayline.serving.http.access import refuse_open_host
    from rayline.serving.http.ingress import LOOPBACK, check_port

    service = project.config.service
    refuse_open_host(service.host, LOOPBACK, service.access)
    url = service_url(project.config)
    if not _elsewhere() and cluster.alive(project.storage) is None and ask(url, service.access) is None:
        cluster.end_leftovers(project.storage)
        check_port(service.host, service.port)


def start(
    project: Project, version: int, *, plan: RolloutConfig | None = None, force: str | None = None
) -> RolloutState:
    """Start a rollout to a registered version.

    Raises:
        GateRefused: its gates said no, and there is no ``force``: why it gets traffic all the same.
        RolloutRefused: another one is under way.
    """
    let_past = blessing.allow(project, version, force)
    look_ahead(project)
    return _start(project, version, plan, let_past)


def _start(project: Project, version: int, plan: RolloutConfig | None, let_past: str) -> RolloutState:
    from rayline.rollout import commands

    config = project.config
    return commands.start(
        config.name,
        storage=str(project.storage),
        rollout=plan or config.rollout,
        version=live_version(project, version),
        tracking_uri=config.registry.tracking_uri,
        experiment=config.registry.experiment or config.name,
        note=let_past,
    )


def promote(project: Project, *, full: bool = False, force: str | None = None) -> RolloutState:
    """Go on from a pause of the rollout under way; with ``full``, skip every step that is left.

    Raises:
        GateRefused: the canary's gates said no since it began, and there is no ``force``.
        RolloutRefused: the rollout does not wait.
    """
    from rayline.rollout import commands

    name, storage = project.config.name, str(project.storage)
    state = commands.status(name, storage=storage)
    note = blessing.allow(project, state.canary, force) if state.kind == "rollout" and not state.final else ""
    return commands.promote(name, storage=storage, full=full, note=note if force is not None else "")


def follow(project: Project, state: RolloutState) -> Released:
    """Tell each change of a rollout until it ends or waits for a person."""
    from rayline.rollout import commands

    said: tuple[int, str] | None = None
    for state in commands.watch(project.config.name, storage=str(project.storage)):
        if said != (state.weight, state.message):
            said = (state.weight, state.message)
            project.listener(RolloutMoved(state.phase, state.stable, state.canary, state.weight, state.message))
    ok = state.phase in ("Healthy", "Progressing", "Concluded") or state.paused_for in ("promote", "hand")
    ended = Released(state.canary, state.phase, state.message, live_url(project.config), ok)
    project.listener(Finished("release", state.seconds, False, f"{state.phase}: {state.message}"))
    return ended


def _first(project: Project, version: int, url: str, seconds: float) -> Released:
    name, store = project.config.name, project.store
    message = f"version {version} is the first: it has all traffic at {url}"
    store.set_alias(name, "champion", version)
    store.drop_alias(name, "challenger")
    store.tag_version(
        name, version, {"rayline.rollout": "Healthy", "rayline.rollout.reason": "the first version: no baseline"}
    )
    project.listener(Finished("release", seconds, False, message))
    return Released(version, "Healthy", message, url, True)


def _tell_what_needs_a_restart(project: Project) -> None:
    """Tell which settings of a service that runs were changed since it started: replicas keep those they have."""
    record = _record(project.config)
    if record is None:
        return
    changed = changes(record["settings"], project.config.service, "service")
    runs = cluster.alive(project.storage) is not None
    if changed and (runs or (_elsewhere() and ask(live_url(project.config), project.config.service.access))):
        way = "`rayline stop`, then run again" if runs else "delete the service on its cluster, then run again"
        project.listener(Notice(f"not applied while the service runs: {', '.join(changed)}; {way}"))


def _elsewhere() -> bool:
    """Tell whether a cluster was named, as it is for the driver of a job, and none of our own is used."""
    return bool(os.environ.get("RAY_ADDRESS"))


def live_version(project: Project, number: int) -> LiveVersion:
    """Fetch a registered version to where every replica can read it."""
    from rayline.registry.bundle import Bundle
    from rayline.serving.traffic.plan import LiveVersion

    version = project.store.version(project.config.name, str(number))
    bundle = Bundle.load(project.store.fetch(version, project.storage / "served"))
    if storage.is_object_store(bundle.path) and not storage.is_kept(bundle.path):
        storage.keep(bundle.path)
    placement = project.config.service.placement
    return LiveVersion(version.number, str(bundle.path), bundle.digest, placement)


def service_url(config: Config) -> str:
    """Return the address that the project's service is to have."""
    service = config.service
    host = "127.0.0.1" if service.host == "0.0.0.0" else service.host
    return f"http://{host}:{service.port}/{config.name}"


def live_url(config: Config) -> str:
    """Return where the project's service answers: while it runs it keeps the address that it was started with.

    Without a cluster it cannot run: what answers there is another project's, perhaps of the same name.
    """
    url = service_url(config)
    started = (_record(config) or {}).get("url", url)
    if started != url and (_elsewhere() or cluster.alive(config.storage) is not None):
        with suppress(ServiceError, UsageError):
            return started if ask(started, config.service.access) is not None else url
    return url


def _record(config: Config) -> dict[str, Any] | None:
    """Return what was written down of the service when it was started: its address and settings."""
    from rayline.serving.names import service_folder

    try:
        file = storage.refresh(service_folder(config.storage, config.name) / "service.json")
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record


def ask(url: str, access: AccessConfig = NO_ACCESS) -> dict[str, Any] | None:
    """Return what a service says of itself, or None where nothing answers there.

    Args:
        url: the service's address.
        access: where its tokens lie.

    Raises:
        ConfigError, NotFoundError: a token's file is not as it must be.
        ServiceError: something answers, but it is not a Rayline service.
    """
    from rayline.serving.http.access import Tokens

    tokens = Tokens.read(access)
    token = tokens.administration or tokens.requests
    request = urllib.request.Request(f"{url}/", headers={"Authorization": f"Bearer {token.decode()}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            said = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (404, 503):
            return None
        raise ServiceError(f"the service at {url} answered {error.code}: {error.reason}.") from error
    except (OSError, ValueError, http.client.HTTPException):
        return None
    if not isinstance(said, dict) or "stable" not in said:
        raise ServiceError(f"what answers at {url} is not a Rayline service; choose another service.port.")
    return said


def _refuse_taken_back(project: Project, version: int) -> None:
    why = taken_back(project, version)
    if why is not None:
        name = project.config.name
        raise RolloutRefused(
            f"version {version} of '{name}' was taken back: {why}. Change the configuration and run again, "
            f"or insist with `rayline rollout start {name} --version {version}`."
        )


def taken_back(project: Project, version: int) -> str | None:
    """Return why the last rollout of a version took it back, or undid it; None where none did."""
    from rayline.rollout import commands
    from rayline.rollout.analysis.past import taken_back as why_taken_back

    name, storage = project.config.name, str(project.storage)
    if commands.last(name, storage=storage) is None:
        return None
    return why_taken_back(commands.history(name, storage=storage), version) or None
