"""The door to Ray Serve: deploy a service, find it again, change what is live on it and see what it has done."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from rayline import storage as kept
from rayline.config import Placement, ServiceConfig, plain
from rayline.errors import ClusterError, NotFoundError, RaylineError, ServiceError, suggestion
from rayline.serving.http.access import Tokens, refuse_open_host
from rayline.serving.http.ingress import LOOPBACK, check_port
from rayline.serving.names import live_state_handle, plan_path, service_folder
from rayline.serving.records.observation import Observation
from rayline.serving.starting import (
    ANYWHERE,
    READY_SECONDS,
    Labels,
    await_answer,
    await_running,
    live_state,
    quiet,
    start_ingress,
    start_replicas,
)
from rayline.serving.traffic.first_plan import check_fits, keep_first_plan
from rayline.serving.traffic.plan import HeaderRoute, LiveVersion, Mirror, TrafficPlan
from rayline.serving.versions import remote

CALL_SECONDS = 30.0
LOAD_SECONDS = 60.0
WEIGHT_SECONDS = 10.0
RECORD = "service.json"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """A live service. Every method may be called again after a failure: what is done already is not done twice.

    Attributes:
        name: its name.
        storage: the folder that its state lies in.
        url: where clients reach it, such as ``http://127.0.0.1:8000/churn``.
        seconds_to_ready: how long its deployment took; 0 where it was found alive.
        fence: the number that its changes carry; None of a person.
    """

    name: str
    storage: str
    url: str
    seconds_to_ready: float = 0.0
    fence: int | None = None

    @classmethod
    def connect(cls, name: str, storage: str | Path) -> Service:
        """Find a live service.

        Raises:
            NotFoundError: no service of this name was deployed under ``storage``, or it does not run any more.
            ClusterError: Ray is not connected.
        """
        import ray

        folder = service_folder(storage, name)
        try:
            url = json.loads(kept.refresh(folder / RECORD).read_text(encoding="utf-8"))["url"]
        except (OSError, ValueError, KeyError) as error:
            known = [path.parent.name for path in kept.files_below(folder.parent) if path.name == RECORD]
            raise NotFoundError(f"service '{name}' was never deployed here. {suggestion(name, known)}") from error
        if not ray.is_initialized():  # looking for an actor would start or join a cluster of Ray's own choice
            raise ClusterError(
                f"service '{name}' cannot be reached: Ray is not connected. Call rayline.connect(storage) first."
            )
        try:
            live_state_handle(name)
        except ValueError as error:
            raise NotFoundError(
                f"service '{name}' does not run on this cluster any more. `rayline deploy {name}` brings it back."
            ) from error
        return cls(name, str(storage), url)

    def plan(self) -> TrafficPlan:
        """Return the traffic plan that holds."""
        raw = self._call("plan")
        if raw is None:
            raise ServiceError(f"service '{self.name}' has no traffic plan; deploy a version to it.")
        return TrafficPlan.from_json(raw)

    def load(self, version: LiveVersion, timeout: float = LOAD_SECONDS) -> None:
        """Make a version live at weight 0; return once every replica has it loaded and warm.

        Raises:
            ServiceError: a replica cannot load it, or not all have within ``timeout`` seconds; it is not live then.
            UsageError: its number is live from another bundle.
        """
        known = {each.number: each for each in self.plan().versions}
        away = known.get(version.number, version).placement == "remote"  # it stays where it is by now
        if away:
            self._bring_up(version, timeout)
        try:
            self._change("add", asdict(version), timeout, seconds=timeout + CALL_SECONDS)
        except RaylineError:
            if away:
                self._sweep()
            raise

    def unload(self, number: int) -> None:
        """Drop a version that has no traffic; one that is not live is left alone. Raises ``UsageError``."""
        generation = self._change("remove", number)
        if remote.running(self.name):
            with suppress(ServiceError):  # a replica that is late is not worth a refusal: nobody sends it traffic
                self._call("settled", generation, WEIGHT_SECONDS)
            self._sweep()

    def set_weights(self, *, stable: int, weights: Mapping[int, int]) -> int:
        """Move traffic; return the plan's generation once every live replica follows it.

        Args:
            stable: the version that has the traffic when no rollout runs.
            weights: version number to percent, together 100.

        Raises:
            UsageError: a version is not live, or the weights do not add up.
            ServiceError: a replica did not follow in time; the plan holds all the same.
        """
        generation: int = self._change("weigh", stable, dict(weights), WEIGHT_SECONDS)
        return generation

    def set_mirror(self, mirror: Mirror | None) -> int:
        """Send copies of requests to a live version, or to none; return as ``set_weights`` does, which raises the same.

        Args:
            mirror: who gets copies, of which share; None for nobody.
        """
        generation: int = self._change("mirror", asdict(mirror) if mirror else None, WEIGHT_SECONDS)
        return generation

    def set_routes(self, routes: Sequence[HeaderRoute]) -> int:
        """Send requests with a header to a version; return as ``set_weights`` does, which raises the same.

        Args:
            routes: all that hold from now on; the first that fits a request decides.
        """
        generation: int = self._change("route", [asdict(each) for each in routes], WEIGHT_SECONDS)
        return generation

    def place(self, number: int, placement: Placement, timeout: float = LOAD_SECONDS) -> None:
        """Have a live version answered from elsewhere; return once every replica does so. No request is dropped.

        Raises:
            NotFoundError: the version is not live.
            ServiceError: a replica cannot, or not all have within ``timeout`` seconds; it stays where it was then.
        """
        if placement == "remote":
            self._bring_up(self.plan().version(number), timeout)
        try:
            self._change("place", number, placement, timeout, seconds=timeout + CALL_SECONDS)
        finally:
            self._sweep()

    def fenced(self, fence: int) -> Service:
        """Return this service for one controller: its changes carry a number, and a lower one than was seen is refused.

        Every changing call of the result may raise ``StaleController``.

        Args:
            fence: rises with each controller that takes over.
        """
        return replace(self, fence=fence)

    def observe(self) -> Observation:
        """Return the counts of every replica, as of now."""
        return Observation.from_json(self._call("observe"))

    def status(self) -> dict[str, Any]:
        """Return, as JSON-ready values, the plan, the replicas with what each has loaded, and Serve's own word."""
        from ray import serve

        applications = serve.status().applications
        plan = self.plan().to_json()
        return {
            **{key: plan[key] for key in ("service", "generation", "stable", "versions", "weights")},
            "url": self.url,
            "application": str(applications[self.name].status.value) if self.name in applications else "ABSENT",
            "replicas": self._call("replicas"),
        }

    def handle(self) -> Any:
        """Return Ray Serve's own handle to the deployment."""
        from ray import serve

        return serve.get_app_handle(self.name)

    def delete(self) -> None:
        """Stop the service and forget its plan. Feedback that was stored stays."""
        import ray
        from ray import serve

        serve.delete(self.name)
        remote.sweep(self.name, None)
        with suppress(ValueError):
            ray.kill(live_state_handle(self.name), no_restart=True)
        for path in (plan_path(self.storage, self.name), service_folder(self.storage, self.name) / RECORD):
            path.unlink(missing_ok=True)
            kept.forget(path)

    def _bring_up(self, version: LiveVersion, timeout: float) -> None:
        self._change("claim")  # a controller that was replaced must not start processes either
        remote.bring_up(self.name, version, self._config(), self.storage, timeout, self._remote_on())

    def _sweep(self) -> None:
        """Remove the applications of versions that are not placed remote any more."""
        with suppress(ServiceError):  # the next change does it
            remote.sweep(self.name, self.plan())

    def _config(self) -> ServiceConfig:
        """Return the settings that the service was started with."""
        file = kept.refresh(service_folder(self.storage, self.name) / RECORD)
        record = json.loads(file.read_text(encoding="utf-8"))
        return msgspec.convert(record["settings"], ServiceConfig)

    def _remote_on(self) -> dict[str, str]:
        """Return the labels of nodes for versions that are placed remote."""
        file = kept.refresh(service_folder(self.storage, self.name) / RECORD)
        record = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in record.get("remote_on", {}).items()}

    def _change(self, method: str, *arguments: Any, seconds: float = CALL_SECONDS) -> Any:
        return self._call(method, *arguments, self.fence, seconds=seconds)

    def _call(self, method: str, *arguments: Any, seconds: float = CALL_SECONDS) -> Any:
        """Call the live state. It may be restarting: calls change nothing twice, so they are made again."""
        import ray

        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            try:
                state = live_state_handle(self.name)
                return ray.get(getattr(state, method).remote(*arguments), timeout=max(0.1, left))
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, RaylineError):
                    raise error.cause from None
                raise ServiceError(f"the live state of '{self.name}' failed: {error}") from error
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError, ValueError) as error:
                if left <= 0.1:
                    raise ServiceError(
                        f"the live state of '{self.name}' did not answer within {seconds:.0f} s: {error}. The service "
                        "goes on serving its last plan; look at the cluster with `ray status`."
                    ) from error
                time.sleep(0.05)


def deploy(
    name: str,
    config: ServiceConfig,
    storage: str,
    plan_version: LiveVersion,
    *,
    serve_on: Labels = ANYWHERE,
    remote_on: Labels | None = None,
) -> Service:
    """Start a service, and do nothing where it runs.

    It comes up with the traffic that it had when it last ran; the first time, ``plan_version`` gets all of it. So a
    restart never moves traffic. Ray must be connected, and started with ``ingress_environment`` where the ingress is
    HAProxy.

    Args:
        name: the service's name, and its path.
        config: replicas, address and limits.
        storage: the folder of the project's state; every node must see it.
        plan_version: what to serve where the service never ran before.
        serve_on: labels of the nodes that replicas may be on.
        remote_on: labels of the nodes for versions that are placed remote; None means ``serve_on``.

    Raises:
        BundleError: the version cannot be loaded.
        ConfigError: others could reach it without a token, a token's file is not as it must be, or a column to slice by
            or to redact is none of its inputs.
        NotFoundError: a token's file does not exist.
        ClusterError: the port is taken, or this cluster's Serve listens elsewhere.
        ServiceError: the service did not come up.
    """
    import ray
    from ray import serve

    refuse_open_host(config.host, LOOPBACK, config.access)
    Tokens.read(config.access)
    if not ray.is_initialized():
        raise ClusterError("Ray is not connected; call rayline.cluster.connect first.")
    from rayline.registry.bundle import Bundle

    began = time.perf_counter()
    storage = str(kept.folder_of(storage).resolve())
    bundle = Bundle.load(plan_version.path)
    check_fits(bundle, config)
    known = serve.status()
    address = "127.0.0.1" if config.host in ("0.0.0.0", *LOOPBACK) else config.host
    service = Service(name, storage, f"http://{address}:{config.port}/{name}")
    if name in known.applications and known.applications[name].status == "RUNNING":
        return Service.connect(name, storage)
    if not known.proxies:
        check_port(config.host, config.port)
    quiet()
    state = live_state(name, storage)
    before = keep_first_plan(state, name, storage, plan_version, bundle)
    try:
        start_ingress(config)
        apart = serve_on if remote_on is None else remote_on
        bring_up_remote(TrafficPlan.from_json(ray.get(state.plan.remote())), config, storage, apart)
        start_replicas(name, config, storage, serve_on)
        await_running(name)
        await_answer(service.url, config)
    except RaylineError:
        serve.delete(name)
        remote.sweep(name, None)
        ray.kill(state, no_restart=True)
        if before is None:
            plan_path(storage, name).unlink(missing_ok=True)
            kept.forget(plan_path(storage, name))
        raise
    write_record(storage, name, service.url, config, apart)
    return Service(name, storage, service.url, time.perf_counter() - began)


def write_record(storage: str, name: str, url: str, config: ServiceConfig, remote_on: Labels) -> None:
    """Write down where a service answers and what it was started with, for ``Service.connect``."""
    record = {"url": url, "settings": plain(config), "remote_on": dict(remote_on)}
    file = service_folder(storage, name) / RECORD
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(record, indent=2), encoding="utf-8")
    draft.replace(file)
    kept.keep(file)


def bring_up_remote(plan: TrafficPlan, config: ServiceConfig, storage: str, labels: Labels) -> None:
    """Start the processes of versions that are placed remote. Raises ``ServiceError`` where the stable one's cannot."""
    for version in plan.versions:
        if version.placement != "remote":
            continue
        try:
            remote.bring_up(plan.service, version, config, storage, READY_SECONDS, labels)
        except ServiceError as error:
            if version.number == plan.stable:
                raise
            _LOG.warning("%s The service comes up without it.", error)
