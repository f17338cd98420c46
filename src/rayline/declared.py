"""A service as a declared application of Ray Serve: what ``serve deploy`` and KubeRay's RayService bring up.

In a Serve configuration::

    applications:
      - name: churn                       # the service's name
        route_prefix: /churn
        import_path: rayline.declared:service
        args: {config: /etc/rayline/rayline.yaml, version: "@champion"}

The service then lives as one of ``rayline deploy`` does: its traffic comes from its storage and moves by rollouts, and
the same configuration applied again changes nothing. Serve's ``http_options`` decide where it listens, and must say
what ``service.host`` and ``service.port`` say.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.config import load
from rayline.errors import ConfigError, suggestion
from rayline.project import Project
from rayline.release import live_version, service_url

if TYPE_CHECKING:
    from rayline.serving.traffic.plan import LiveVersion, TrafficPlan

ARGUMENTS = ("config", "version")


def service(args: dict[str, str]) -> Any:
    """Build the application; Serve calls this in a process of the cluster.

    Args:
        args: ``config``: the project's YAML file, as the cluster's nodes see it. ``version``: ``3`` or ``@champion``, a
            registered version that has all traffic where the service never ran before; default the champion, and the
            newest version where nothing is champion yet.

    Returns:
        What Serve runs.

    Raises:
        ConfigError: ``args`` are wrong, or the configuration is.
        NotFoundError: nothing is registered under the project's name.
    """
    import ray

    from rayline.registry.bundle import Bundle
    from rayline.serving.http.access import refuse_open_host
    from rayline.serving.http.ingress import LOOPBACK
    from rayline.serving.service import bring_up_remote, write_record
    from rayline.serving.starting import bound_replicas, live_state
    from rayline.serving.traffic.first_plan import check_fits, keep_first_plan
    from rayline.serving.traffic.plan import TrafficPlan

    _check(args)
    project = Project(load(Path(args["config"])))
    config, storage = project.config, str(project.storage.resolve())
    refuse_open_host(config.service.host, LOOPBACK, config.service.access)
    state = live_state(config.name, storage)
    kept = ray.get(state.plan.remote())
    first = _stable(TrafficPlan.from_json(kept)) if kept else _registered(project, args.get("version"))
    bundle = Bundle.load(Path(first.path))
    check_fits(bundle, config.service)
    keep_first_plan(state, config.name, storage, first, bundle)
    on, own = config.cluster.serve_on, config.cluster.remote_on
    apart = on if own is None else own
    bring_up_remote(TrafficPlan.from_json(ray.get(state.plan.remote())), config.service, storage, apart)
    write_record(storage, config.name, service_url(config), config.service, apart)
    return bound_replicas(config.name, config.service, storage, on)


def _check(args: dict[str, str]) -> None:
    for name in args:
        if name not in ARGUMENTS:
            raise ConfigError(f"rayline.declared:service takes no argument '{name}'. {suggestion(name, ARGUMENTS)}")
    if "config" not in args:
        raise ConfigError("rayline.declared:service needs the argument 'config': the path of the project's YAML file.")


def _stable(plan: TrafficPlan) -> LiveVersion:
    return plan.version(plan.stable)


def _registered(project: Project, selector: str | None) -> LiveVersion:
    return live_version(project, project.store.version(project.config.name, selector).number)
