"""How a service comes up: its live state, Serve's ingress, the replicas, and the wait until they answer."""

from __future__ import annotations

import logging
import time
import urllib.request
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rayline.cluster import NAMESPACE, ON_THE_HEAD
from rayline.config import ServiceConfig
from rayline.errors import ClusterError, ServiceError
from rayline.serving.http.ingress import LEAVE_SECONDS, LOOPBACK
from rayline.serving.names import live_state_name, plan_path
from rayline.serving.scaling import LOOK_BACK

_LOG = logging.getLogger(__name__)

Labels = Mapping[str, str]
ANYWHERE: Labels = MappingProxyType({})
READY_SECONDS = 120.0
NODES_SECONDS = 900.0
UNPLACED = "to be scheduled"
"""What Serve says of replicas that no node has room for after half a minute."""
SHORTEST_LOOK = 11.0  # Serve wants more than its own 10


def live_state(name: str, storage: str) -> Any:
    """Return the actor that holds a service's plan, started where there is none."""
    import ray

    from rayline.serving.traffic.live_state import LiveState

    return (
        ray.remote(LiveState)
        .options(
            name=live_state_name(name),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            resources=ON_THE_HEAD,
            max_restarts=-1,
            max_concurrency=10_000,
        )
        .remote(str(plan_path(storage, name)), True)
    )


def start_ingress(config: ServiceConfig) -> None:
    """Start Serve with its ingress on the service's address, where it does not run yet."""
    from ray import serve
    from ray.serve.config import HTTPOptions

    serve.start(
        proxy_location="HeadOnly" if config.host in LOOPBACK else "EveryNode",
        http_options=HTTPOptions(host=config.host, port=config.port),
        logging_config=quiet_logging(),
    )


def start_replicas(name: str, config: ServiceConfig, storage: str, labels: Labels = ANYWHERE) -> None:
    """Ask Serve for the service's replicas, on nodes with these labels; ``await_running`` waits for them."""
    start_application(bound_replicas(name, config, storage, labels), name, f"/{name}")


def bound_replicas(name: str, config: ServiceConfig, storage: str, labels: Labels = ANYWHERE) -> Any:
    """Return the application of Serve that a service's replicas are, on nodes with these labels."""
    from ray import serve

    from rayline.serving.replica import Replica, ReplicaSettings

    deployment = serve.deployment(
        serve.ingress(None)(Replica),
        name="replica",
        ray_actor_options=actor_options(config, labels),
        max_ongoing_requests=config.max_ongoing_requests,
        max_queued_requests=config.max_queued_requests,
        max_surge_percent=100,
        health_check_period_s=2,
        health_check_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=LEAVE_SECONDS + config.drain,
        logging_config=quiet_logging(),
        **_how_many(config),
    )
    return deployment.bind(ReplicaSettings.from_config(name, storage, config))


def actor_options(config: ServiceConfig, labels: Labels) -> dict[str, Any]:
    """Return what Serve reserves for one process of a service, and where."""
    where = {"label_selector": dict(labels)} if labels else {}
    return {"num_cpus": config.num_cpus, "num_gpus": config.num_gpus, **where}


def _how_many(config: ServiceConfig) -> dict[str, Any]:
    """Return Serve's settings for a fixed number of replicas, or for one that follows the load.

    What a delay waits for is the mean over as long a time, so that a short rush moves nothing.
    """
    scaling = config.autoscaling
    if scaling is None:
        return {"num_replicas": config.replicas}
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=scaling.min_replicas,
            initial_replicas=min(max(config.replicas, scaling.min_replicas), scaling.max_replicas),
            max_replicas=scaling.max_replicas,
            target_ongoing_requests=scaling.target_ongoing_requests,
            upscale_delay_s=scaling.upscale_delay,
            downscale_delay_s=scaling.downscale_delay,
            look_back_period_s=min(LOOK_BACK, max(SHORTEST_LOOK, scaling.upscale_delay)),
            policy=AutoscalingPolicy(policy_function="rayline.serving.scaling:policy"),
        )
    }


def start_application(bound: Any, name: str, route_prefix: str | None) -> None:
    """Ask Serve to run an application, and do not wait for it. Without a prefix, only handles reach it."""
    from ray import serve

    target = serve.RunTarget(bound, name=name, route_prefix=route_prefix)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def await_running(name: str) -> None:
    """Wait until Serve says that the replicas run; longer, and telling so, while nodes must come for them.

    Raises ``ServiceError`` where they cannot, or not in time.
    """
    from ray import serve

    began = time.monotonic()
    seconds = READY_SECONDS
    while True:
        application = serve.status().applications.get(name)
        status = str(application.status.value) if application else "ABSENT"
        if status == "RUNNING":
            return
        reason = cause(application) if application else ""
        if status == "DEPLOY_FAILED":
            raise ServiceError(f"service '{name}' cannot start: {reason}")
        if seconds < NODES_SECONDS and UNPLACED in reason:
            seconds = NODES_SECONDS
            _LOG.warning("service '%s' waits for nodes, for up to %.0f s: %s", name, seconds, reason)
        if time.monotonic() - began > seconds:
            raise ServiceError(f"service '{name}' is {status} after {seconds:.0f} s: {reason}")
        time.sleep(0.05)


def cause(application: Any) -> str:
    """Return what keeps an application of Serve from running: of a traceback, the error that it ends in."""
    said = [each.message for each in application.deployments.values() if each.message] or [str(application.message)]
    lines = [line.strip() for line in said[0].splitlines() if line.strip()]
    return lines[-1].removeprefix("rayline.errors.") if lines else ""


def await_answer(url: str, config: ServiceConfig) -> None:
    """Wait until the service answers at its address. Raises ``ClusterError``."""
    deadline = time.monotonic() + READY_SECONDS / 4
    while True:
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=2):
                return
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the service runs, and {url} does not answer: {error}. If this cluster's Serve was started on "
                    f"another address than {config.host}:{config.port}, use that one or another cluster."
                ) from error
            time.sleep(0.05)


def quiet_logging() -> Any:
    """Return how Serve's processes log: what is wrong, and no line for each request."""
    from ray.serve.schema import LoggingConfig

    return LoggingConfig(enable_access_log=False, log_level="WARNING")


def quiet() -> None:
    """Keep Serve's progress out of this process's log."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
