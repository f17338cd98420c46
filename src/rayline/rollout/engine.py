"""Observe, decide, persist, act: what the controller does, as a plain object that any thread or test may drive.

A decision is on disk before anything acts on it; an action that was cut off is done again after a restart, and all of
them may be done twice. Traffic (``tick``) and the tracking store (``deliver``) are driven by two threads, so that a
store that hangs or fails neither moves nor stops traffic.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from rayline.errors import BundleError, NotFoundError, RaylineError, RolloutRefused, TrackingError, UsageError
from rayline.rollout import verbs
from rayline.rollout.delivery import deliver
from rayline.rollout.moves import acknowledged, begin, failed, unwritten
from rayline.rollout.notes import Lane, Note, OpenRun, lane, without
from rayline.rollout.plan import Plan
from rayline.rollout.policy import Seen, decide, wants_observation
from rayline.rollout.ports import Ports, Records, ServicePort
from rayline.rollout.state import Action, Load, RolloutState, SetWeights
from rayline.rollout.storage import RolloutFiles
from rayline.serving.plan import LiveVersion

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 30.0
LANES: tuple[Lane, ...] = ("registry", "runs")

Verb = Callable[[RolloutState, float], RolloutState]


@dataclass(frozen=True, slots=True)
class Order:
    """What a rollout is started with.

    Attributes:
        id: unique; the same order sent twice starts one rollout.
        plan: its steps; None where it undoes the last one.
        version: the canary; None where it undoes the last one.
        tracking_uri: of MLflow; None is the one under the storage folder.
        experiment: that the rollout's run belongs to.
        note: what its first decision says besides.
    """

    id: str
    plan: Plan | None
    version: LiveVersion | None
    tracking_uri: str | None
    experiment: str
    note: str = ""


class Engine:
    """The rollouts of one service. Every method may be called from any thread."""

    def __init__(self, files: RolloutFiles, ports: Ports, clock: Callable[[], float]) -> None:
        """Go on with the rollout on disk, if there is one. ``clock`` gives Unix time."""
        self._name = files.service
        self._storage = files.storage
        self._ports = ports
        self._clock = clock
        self._files = files
        self._lock = threading.RLock()
        self._state = self._files.read()
        self._service: ServicePort | None = None
        self._records: tuple[str | None, Records] | None = None
        self._retries: dict[Lane, tuple[float, float]] = {}

    @property
    def state(self) -> RolloutState | None:
        """The current rollout, or the last one."""
        return self._state

    def start(self, order: Order) -> RolloutState:
        """Begin a rollout of ``order.version``, or the undoing of the last one.

        Raises:
            RolloutRefused: another one is under way, or the version has the traffic already, or nothing can be undone.
            NotFoundError: the service does not run.
        """
        undo = order.version is None
        with self._lock:
            current = self._state
            if current is not None and current.id == order.id:
                return current
            if current is not None:
                verbs.refuse_second(current, "undo" if undo else f"start one to v{_number(order)}")
            self._service = None  # it may have been deployed anew since
            live = self._connected().plan()
            stable = live.version(live.stable)
            canary = order.version or verbs.returning(self._files.history(), self._name, live.stable)
            if canary.number == stable.number:
                raise RolloutRefused(f"v{canary.number} of '{self._name}' is the stable version already.")
            state = begin(
                id=order.id,
                kind="undo" if undo else "rollout",
                plan=order.plan or Plan.at_once(),
                service=self._name,
                stable=stable,
                canary=canary,
                now=self._clock(),
                experiment=order.experiment,
                tracking_uri=order.tracking_uri,
                note=order.note,
                earlier=current,
            )
            if current is not None:
                self._files.archive(current)
            return self._save(state)

    def ask(self, request: str, verb: Verb) -> RolloutState:
        """Apply a verb once, however often ``request`` is sent. Raises ``RolloutRefused``, ``NotFoundError``."""
        with self._lock:
            state = self._state
            if state is None:
                raise NotFoundError(
                    f"service '{self._name}' has no rollout. `rayline rollout start {self._name}` begins one."
                )
            if request in state.requests:
                return state
            return self._save(verbs.answered(verb(state, self._clock()), request))

    def tick(self) -> bool:
        """Do the next action, or make the next decision; tell whether anything changed."""
        with self._lock:
            state = self._state
        if state is None or state.settled:
            return False
        if state.actions:
            return self._act(state.actions[0])
        seen = self._look(state)
        with self._lock:
            if self._state is not state:
                return True
            after = decide(state, seen, self._clock())
            if after is not state:
                self._save(after)
            return after is not state

    def deliver(self) -> bool:
        """Hand the first note of each lane to the tracking store; tell whether any was taken or given up."""
        with self._lock:
            state = self._state
        if state is None or not state.notes:
            return False
        moved = False
        for name in LANES:
            note = next((each for each in state.notes if lane(each) == name), None)
            if note is not None and self._clock() >= self._retries.get(name, (0.0, 0.0))[0]:
                moved = self._delivered(name, note, state) or moved
        return moved

    def beat(self) -> None:
        """Leave a sign of life for those who watch, while there is something to watch."""
        state = self._state
        if state is not None and not state.settled:
            self._files.beat()

    def _act(self, action: Action) -> bool:
        if self._clock() < action.not_before:
            return False
        try:
            self._perform(action)
        except Exception as error:  # noqa: BLE001 - whatever the service does, the rollout must come to its end
            self._service = None
            permanent = isinstance(error, UsageError | BundleError)
            with self._lock:
                assert self._state is not None
                self._save(failed(self._state, action, self._clock(), str(error), permanent=permanent))
            return True
        with self._lock:
            assert self._state is not None
            self._save(acknowledged(self._state, action, self._clock()))
        return True

    def _perform(self, action: Action) -> None:
        service = self._connected()
        if isinstance(action, Load):
            service.load(action.version)
        elif isinstance(action, SetWeights):
            service.set_weights(stable=action.stable, weights=action.weights)
        else:
            service.unload(action.number)

    def _look(self, state: RolloutState) -> Seen:
        plan = None
        try:
            service = self._connected()
            plan = service.plan()
            if wants_observation(state, self._clock()):
                return Seen(plan, service.observe())
        except Exception as error:  # noqa: BLE001 - what cannot be read gives no verdict
            self._service = None
            return Seen(plan, error=str(error) or type(error).__name__)
        return Seen(plan)

    def _delivered(self, name: Lane, note: Note, state: RolloutState) -> bool:
        try:
            run = deliver(note, state.service, state.runs, self._store(state.tracking_uri))
        except Exception as error:  # noqa: BLE001 - tracking never stops traffic
            if isinstance(error, RaylineError) and not isinstance(error, TrackingError):
                with self._lock:
                    assert self._state is not None
                    self._save(unwritten(self._state, note, self._clock(), str(error)))
                return True
            self._records = None
            wait = min(LAST_RETRY_S, 2 * self._retries.get(name, (0.0, FIRST_RETRY_S / 2))[1])
            self._retries[name] = (self._clock() + wait, wait)
            return False
        self._retries.pop(name, None)
        with self._lock:
            current = self._state
            assert current is not None
            runs = current.runs
            if isinstance(note, OpenRun) and run is not None:
                runs = {**runs, note.rollout: run}
            self._save(replace(current, notes=without(current.notes, note), runs=runs))
        return True

    def _connected(self) -> ServicePort:
        if self._service is None:
            self._service = self._ports.service(self._name, self._storage)
        return self._service

    def _store(self, tracking_uri: str | None) -> Records:
        if self._records is None or self._records[0] != tracking_uri:
            self._records = (tracking_uri, self._ports.records(tracking_uri, self._storage))
        return self._records[1]

    def _save(self, state: RolloutState) -> RolloutState:
        if state is not self._state:
            self._files.write(state)
            self._state = state
        return state


def _number(order: Order) -> int:
    assert order.version is not None
    return order.version.number
