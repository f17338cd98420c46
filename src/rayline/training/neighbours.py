"""What the services on the connected cluster have, wait for and may grow to, as Serve's controller tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayline.training.sharing import Neighbours

CONTROLLER, SERVE = "SERVE_CONTROLLER_ACTOR", "serve"
"""Serve's names for its controller and for the namespace that it lives in."""

ASK_SECONDS = 5.0
DEFAULT_CPUS = 1.0
"""What Serve gives a replica of which nothing is said."""


def of_services() -> Neighbours:
    """Return what all services of the cluster have; nothing where Serve does not run, or does not answer in time."""
    import ray

    try:
        controller = ray.get_actor(CONTROLLER, namespace=SERVE)
        details = ray.get(controller.get_serve_instance_details.remote(), timeout=ASK_SECONDS)
    except (ValueError, ray.exceptions.RayError):
        return Neighbours()
    return counted(details)


def counted(details: Mapping[str, Any]) -> Neighbours:
    """Return the CPUs of the services in ``ServeInstanceDetails``, as a dictionary."""
    held = waiting = growth = 0.0
    for application in details.get("applications", {}).values():
        for deployment in application.get("deployments", {}).values():
            config = deployment.get("deployment_config") or {}
            asked = (config.get("ray_actor_options") or {}).get("num_cpus")
            cpus = DEFAULT_CPUS if asked is None else float(asked)
            placed = sum(replica.get("node_id") is not None for replica in deployment.get("replicas", ()))
            target = int(deployment.get("target_num_replicas") or 0)
            scaling = config.get("autoscaling_config") or {}
            most = max(int(scaling.get("max_replicas") or 0), target)
            held += cpus * placed
            waiting += cpus * max(0, target - placed)
            growth += cpus * max(0, most - placed)
    return Neighbours(held, waiting, growth)
