"""The one actor that moves a service's traffic: a thin shell around ``Engine``, and how to find or start it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from rayline.cluster import NAMESPACE
from rayline.errors import ClusterError, RaylineError, ServiceError
from rayline.rollout import verbs
from rayline.rollout.engine import Engine, Order
from rayline.rollout.ports import Ports
from rayline.rollout.state import RolloutState
from rayline.rollout.storage import RolloutFiles

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
        self._engine = Engine(RolloutFiles(storage, service), ports, time.time)
        self._traffic = threading.Event()
        self._notes = threading.Event()
        threading.Thread(target=self._move, name="rollout-traffic", daemon=True).start()
        threading.Thread(target=self._write, name="rollout-notes", daemon=True).start()
        threading.Thread(target=self._beat, name="rollout-heartbeat", daemon=True).start()

    def start(self, order: Order) -> dict[str, Any]:
        """Begin a rollout."""
        return self._told(self._engine.start(order))

    def ask(self, request: str, verb: str, details: dict[str, Any]) -> dict[str, Any]:
        """Apply ``promote``, ``pause``, ``resume`` or ``abort``."""
        chosen = getattr(verbs, verb)
        return self._told(self._engine.ask(request, lambda state, now: chosen(state, now, **details)))

    def _told(self, state: RolloutState) -> dict[str, Any]:
        self._traffic.set()
        return state.to_json()

    def _move(self) -> None:
        while True:
            self._traffic.clear()
            moved = _safely(self._engine.tick)
            state = self._engine.state
            if moved:
                self._notes.set()
            if not moved:
                idle = state is None or state.settled
                self._traffic.wait(IDLE_S if idle else WAITING_TICK_S if state and state.waiting else TICK_S)

    def _write(self) -> None:
        while True:
            self._notes.clear()
            if not _safely(self._engine.deliver):
                self._notes.wait(NOTES_S)

    def _beat(self) -> None:
        # A thread of its own: a version may take long to load, and the controller is at work all the same.
        while True:
            _safely(self._engine.beat)
            time.sleep(BEAT_S)


def _safely(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception:
        # A full disk must not end the thread: nothing was acted on, and the next round tries again.
        log.exception("rollout controller: round failed")
        return None


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
            actor = _controller(service, storage, ports)
            raw = ray.get(getattr(actor, method).remote(*arguments), timeout=max(0.1, left))
            return RolloutState.from_json(raw)
        except ray.exceptions.RayTaskError as error:
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


def _controller(service: str, storage: str, ports: Ports) -> Any:
    import ray

    return (
        ray.remote(Controller)
        .options(
            name=actor_name(service),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=8,
        )
        .remote(service, storage, ports)
    )
