"""The applications of versions that are placed remote: a handle-only Serve application for each.

Serve's controller owns them, so that they outlive whoever asked for them. Who changes the plan brings them up before
replicas are told to ask them, and takes them away once no replica does: both may be done again after a crash, and
``sweep`` removes what a crash left behind.
"""

from __future__ import annotations

import re
import time
from typing import Any

from rayline.config import ServiceConfig
from rayline.errors import BundleError, ServiceError
from rayline.serving.names import remote_name
from rayline.serving.starting import ANYWHERE, Labels, actor_options, cause, quiet_logging, start_application
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan

LOOK_SECONDS = 0.1


def bring_up(
    service: str,
    live: LiveVersion,
    config: ServiceConfig,
    storage: str,
    timeout: float,
    labels: Labels = ANYWHERE,
) -> None:
    """Have a version's application run on a node with these labels, and return once it does. One that runs is kept.

    Raises:
        BundleError: the bundle is damaged, or is not the one that was named.
        NotFoundError: there is no bundle.
        ServiceError: it cannot load the version, or does not run within ``timeout`` seconds; it is gone then.
    """
    from ray import serve

    _check(service, live)
    name = remote_name(service, live.number)
    deadline = time.monotonic() + timeout
    if _status(name) in ("DEPLOY_FAILED", "UNHEALTHY", "DELETING") or (
        _status(name) == "RUNNING" and _holds_another(name, live)
    ):
        serve.delete(name)
    if _status(name) == "ABSENT":
        _start(name, service, live, config, storage, labels)
    while (status := _status(name)) != "RUNNING":
        if status == "DEPLOY_FAILED" or time.monotonic() > deadline:
            reason = _message(name) if status == "DEPLOY_FAILED" else f"not loaded in {timeout:.0f} s"
            serve.delete(name)
            raise ServiceError(f"version {live.number} of '{service}' cannot be served in its own process: {reason}")
        time.sleep(LOOK_SECONDS)


def _check(service: str, live: LiveVersion) -> None:
    """Look at the bundle first: of a process that cannot start, Serve would try three."""
    from rayline.registry.bundle import Bundle

    found = Bundle.load(live.path).digest
    if found != live.digest:
        raise BundleError(
            f"bundle '{live.path}' has digest {found[:12]}, and version {live.number} of '{service}' is "
            f"{live.digest[:12]}. Fetch the version again."
        )


def sweep(service: str, plan: TrafficPlan | None) -> None:
    """Remove the applications of a service's versions that the plan does not place remote; with None, of all."""
    from ray import serve

    wanted = {remote_name(service, each.number) for each in plan.versions if each.placement == "remote"} if plan else ()
    for name in running(service):
        if name not in wanted:
            serve.delete(name, _blocking=False)


def running(service: str) -> list[str]:
    """Return the applications of a service's versions, those that are going away left out."""
    from ray import serve

    pattern = re.compile(re.escape(remote_name(service, 0)[:-1]) + r"\d+")
    applications = serve.status().applications.items()
    return [name for name, each in applications if pattern.fullmatch(name) and str(each.status.value) != "DELETING"]


def _start(name: str, service: str, live: LiveVersion, config: ServiceConfig, storage: str, labels: Labels) -> None:
    from ray import serve

    from rayline.serving.versions.remote_version import RemoteSettings, RemoteVersion

    deployment = serve.deployment(
        RemoteVersion,
        name="version",
        num_replicas=1,
        ray_actor_options=actor_options(config, labels),
        max_ongoing_requests=64,  # each replica of the service has one call under way
        health_check_period_s=2,
        health_check_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=config.drain,
        logging_config=quiet_logging(),
    )
    settings = RemoteSettings(service, live, storage, config.threads, config.execution, config.memory_limit_mb)
    start_application(deployment.bind(settings), name, None)


def _holds_another(name: str, live: LiveVersion) -> bool:
    from ray import serve

    try:
        about: dict[str, Any] = serve.get_app_handle(name).about.remote().result(timeout_s=5)
    except Exception:  # noqa: BLE001 - whatever it is, Serve mends the process
        return False
    return bool(about["digest"] != live.digest)


def _status(name: str) -> str:
    from ray import serve

    application = serve.status().applications.get(name)
    return str(application.status.value) if application else "ABSENT"


def _message(name: str) -> str:
    from ray import serve

    return cause(serve.status().applications[name])
