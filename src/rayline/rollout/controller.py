"""The one actor that moves a service's traffic: a thin shell around ``Engine``, and how to find or start it."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rayline.cluster import NAMESPACE, ON_THE_HEAD
from rayline.errors import ClusterError, RaylineError, ServiceError, StaleController
from rayline.rollout import failpoints, gauges
from rayline.rollout.engine import Engine, Order
from rayline.rollout.policy import verbs
from rayline.rollout.ports import Ports
from rayline.rollout.state import RolloutState
from rayline.rollout.steady import SteadyClock
from rayline.rollout.storage.files import rollout_files

TICK_S = 0.2
WAITING_TICK_S = 1.0
IDLE_S = 5.0
NOTES_S = 1.0
BEAT_S = 2.0
CALL_SECONDS = 60.0

log = logging.getLogger(__name__)


class Controller:
    """The actor of one service. Ray restarts it after a crash, and it goes on with what is on disk."""

    def __init__(self, service: str, storage: str, ports: Ports) -> None:
        """Read the rollout back and go on with it in the background."""
        if not _restarted():
            failpoints.arm_from_environment()
        self._engine = Engine(rollout_files(storage, service), ports, SteadyClock())
        self._stale = threading.Event()
        self._traffic = threading.Event()
        self._notes = threading.Event()
        self._hooks = threading.Event()
        for work in (self._move, self._write, self._tell, self._beat, self._look_around):
            threading.Thread(target=work, name=f"rollout{work.__name__}", daemon=True).start()

    def start(self, order: Order) -> dict[str, Any]:
        """Begin a rollout."""
        return self._told(self._engine.start(order))

    def ask(self, request: str, verb: str, details: dict[str, Any]) -> dict[str, Any]:
        """Apply a verb of ``verbs``: ``promote``, ``pause``, ``resume``, ``abort``."""
        chosen = getattr(verbs, verb)
        return self._told(self._engine.ask(request, lambda state, now: chosen(state, now, **details)))

    def _told(self, state: RolloutState) -> dict[str, Any]:
        self._traffic.set()
        return state.to_json()

    def _move(self) -> None:
        while not self._stale.is_set():
            self._traffic.clear()
            moved = self._safely(self._engine.tick)
            state = self._engine.state
            if moved:
                self._notes.set()
                self._hooks.set()
            else:
                idle = state is None or state.settled
                self._traffic.wait(IDLE_S if idle else WAITING_TICK_S if state and state.waiting else TICK_S)

    def _write(self) -> None:
        self._outward(self._engine.deliver, self._notes)

    def _tell(self) -> None:
        self._outward(self._engine.notify, self._hooks)

    def _outward(self, work: Callable[[], bool], wanted: threading.Event) -> None:
        while not self._stale.is_set():
            wanted.clear()
            if not self._safely(work):
                wanted.wait(NOTES_S)

    def _beat(self) -> None:
        # A thread of its own: a version may take long to load, and the controller is at work all the same.
        while not self._stale.wait(BEAT_S):
            self._safely(self._engine.beat)
            self._safely(lambda: gauges.shown(self._engine.state))

    def _look_around(self) -> None:
        while not self._stale.wait(BEAT_S):
            try:
                self._engine.look_around()
            except Exception:
                log.debug("rollout controller: the service could not be looked at", exc_info=True)

    def _safely(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except StaleController as error:
            # Whoever took over goes on. This one stays to tell those who ask it.
            log.warning("rollout controller: %s", error)
            self._stale.set()
            for each in (self._traffic, self._notes, self._hooks):
                each.set()
        except Exception:
            # A full disk must not end the thread: nothing was acted on, and the next round tries again.
            log.exception("rollout controller: round failed")
        return None


def _restarted() -> bool:
    """Tell whether Ray started this process in the place of one that died."""
    import ray

    return bool(ray.get_runtime_context().was_current_actor_reconstructed)


def call(service: str, storage: str, ports: Ports, method: str, *arguments: Any) -> RolloutState:
    """Call the service's controller, starting it where there is none. It may be restarting: the call is sent again.

    Raises:
        ClusterError: Ray is not connected.
        ServiceError: the controller did not answer.
        RaylineError: what the controller raised.
    """
    import ray

    if not ray.is_initialized():
        raise ClusterError("Ray is not connected; call rayline.connect first.")
    deadline = time.monotonic() + CALL_SECONDS
    while True:
        left = deadline - time.monotonic()
        try:
            actor = controller(service, storage, ports)
            raw = ray.get(getattr(actor, method).remote(*arguments), timeout=max(0.1, left))
            return RolloutState.from_json(raw)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, StaleController) and left > 0.1:
                # Another controller had the storage meanwhile. This one was asked: a fresh one takes over here.
                with suppress(ValueError):
                    ray.kill(ray.get_actor(actor_name(service), namespace=NAMESPACE), no_restart=True)
                time.sleep(0.1)
                continue
            if isinstance(error.cause, RaylineError):
                raise error.cause from None
            raise ServiceError(f"the rollout controller of '{service}' failed: {error}") from error
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError, ValueError) as error:
            if left <= 0.1:
                raise ServiceError(
                    f"the rollout controller of '{service}' did not answer within {CALL_SECONDS:.0f} s: {error}. "
                    "Traffic stays as it is; look at the cluster with `ray status`."
                ) from error
            time.sleep(0.1)


def new_id() -> str:
    """Return an id for an order or a request; ids sort by time."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def actor_name(service: str) -> str:
    """Return the name of a service's controller actor."""
    return f"rollout:{service}"


def controller(service: str, storage: str, ports: Ports) -> Any:
    """Return the actor of a service, started where there is none. Ray must be connected."""
    import ray

    armed = os.environ.get(failpoints.VARIABLE)
    return (
        ray.remote(Controller)
        .options(
            name=actor_name(service),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            resources=ON_THE_HEAD,
            max_restarts=-1,
            max_concurrency=8,
            **({"runtime_env": {"env_vars": {failpoints.VARIABLE: armed}}} if armed else {}),
        )
        .remote(service, storage, ports)
    )
