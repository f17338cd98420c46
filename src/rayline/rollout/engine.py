"""Observe, decide, persist, act: what the controller does, as a plain object that any thread or test may drive.

A decision is on disk before anything acts on it; an action that was cut off is done again after a restart, and all of
them may be done twice. Before the first action after a restart the traffic in force is read back. Traffic (``tick``),
the tracking store (``deliver``) and hooks (``notify``) are driven by threads of their own, so that a store or a
receiver that hangs or fails neither moves nor stops traffic.

An engine holds the highest fencing number of its service. One whose number was overtaken raises ``StaleController``
from whatever it does, and has changed nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from msgspec.structs import replace

from rayline.config import HookConfig
from rayline.errors import BundleError, NotFoundError, RolloutRefused, StaleController, UsageError
from rayline.rollout.analysis.glance import glance
from rayline.rollout.apart import Apart, Overtaken
from rayline.rollout.effects import perform
from rayline.rollout.failpoints import reach
from rayline.rollout.notes import Lane
from rayline.rollout.outbox import Outbox
from rayline.rollout.outside import measured
from rayline.rollout.plans.plan import Plan
from rayline.rollout.policy import verbs
from rayline.rollout.policy.announcing import announced
from rayline.rollout.policy.moves import acknowledged, begin, failed
from rayline.rollout.policy.policy import Seen, decide, tended, wants_external, wants_observation
from rayline.rollout.policy.readback import read_back
from rayline.rollout.ports import Ports, ServicePort
from rayline.rollout.state import Action, RolloutState
from rayline.rollout.steady import SteadyClock
from rayline.rollout.storage.files import RolloutStore
from rayline.serving.records.observation import Observation
from rayline.serving.traffic.plan import LiveVersion

Verb = Callable[[RolloutState, float], RolloutState]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """What a rollout is started with.

    Attributes:
        id: unique; the same order sent twice starts one rollout.
        kind: ``undo`` returns to what was stable before; ``retry`` begins the last one anew.
        plan: its steps; None but for a ``rollout``.
        version: the canary; None but for a ``rollout``.
        tracking_uri: of MLflow; None is the one under the storage folder.
        experiment: that the rollout's run belongs to.
        note: what its first decision says besides.
        hooks: who is told of what happens.
        to: the version to return to, where it undoes; None for the stable one before.
    """

    id: str
    kind: Literal["rollout", "undo", "retry"]
    plan: Plan | None
    version: LiveVersion | None
    tracking_uri: str | None
    experiment: str
    note: str = ""
    hooks: tuple[HookConfig, ...] = ()
    to: int | None = None


class Engine:
    """The rollouts of one service. Every method may be called from any thread, and raises ``StaleController``."""

    def __init__(self, files: RolloutStore, ports: Ports, clock: SteadyClock) -> None:
        """Take over from whoever wrote last, and go on with the rollout on disk, if there is one.

        Args:
            files: claimed here.
            ports: the world.
            clock: gives Unix time; set forward here to the last decision on disk.

        Raises:
            ServiceError: the file is damaged.
        """
        self._name = files.service
        self._storage = files.storage
        self._ports = ports
        self._clock = clock
        self._files = files
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._files.claim()
        self._state = self._files.read()
        if self._state is not None:
            clock.not_before(max(self._files.clock(), self._state.updated, self._state.progressed))
        self._service: ServicePort | None = None
        self._read_back = self._state is None or self._state.settled
        self._outbox = Outbox(ports, self._storage, clock)
        self._window: tuple[tuple[str, int], Observation] | None = None
        self._glance = ""

    @property
    def state(self) -> RolloutState | None:
        """The current rollout, or the last one."""
        return self._state

    def close(self) -> None:
        """Let go of the files; nothing more may be asked of it."""
        self._files.close()

    def start(self, order: Order) -> RolloutState:
        """Begin a rollout of ``order.version``, the undoing of the last one, or the last one anew.

        Raises:
            RolloutRefused: another one is under way, or the version has the traffic already, or there is nothing to
                undo or to retry.
            NotFoundError: the service does not run.
        """
        with self._lock:
            current = self._state
            known = self._files.known(order.id)
            if known is not None:  # the order was sent twice; another one may have followed since
                return known
            if current is not None:
                verbs.refuse_second(current, _wish(order))
            self._service = None  # it may have been deployed anew since
            live = self._connected().plan()
            stable = live.version(live.stable)
            plan, canary, why = self._aim(order, stable.number)
            if canary.number == stable.number:
                raise RolloutRefused(f"v{canary.number} of '{self._name}' is the stable version already.")
            state = begin(
                id=order.id,
                kind="undo" if order.kind == "undo" else "rollout",
                plan=plan,
                service=self._name,
                stable=stable,
                canary=canary,
                now=self._clock(),
                experiment=order.experiment,
                tracking_uri=order.tracking_uri,
                note="; ".join(filter(None, (why, order.note))),
                earlier=current,
                hooks=order.hooks,
            )
            # A verb to the rollout before that comes once more, late, must not act on this one.
            return self._save(replace(state, requests=current.requests if current else ()))

    def _aim(self, order: Order, stable: int) -> tuple[Plan, LiveVersion, str]:
        """Return the steps, the canary, and what is to be said of them."""
        history = self._files.history()
        if order.kind == "undo":
            return Plan.at_once(), verbs.returning(history, self._name, stable, order.to), ""
        if order.kind == "retry":
            if not history:
                raise self._none()
            return (*verbs.retried(history[0]), "tried once more")
        assert order.plan is not None
        assert order.version is not None
        plan, why = verbs.shortened(order.plan, history, order.version.number, stable)
        return plan, order.version, why

    def _none(self) -> NotFoundError:
        return NotFoundError(f"service '{self._name}' has no rollout. `rayline rollout start {self._name}` begins one.")

    def ask(self, request: str, verb: Verb) -> RolloutState:
        """Apply a verb once, however often ``request`` is sent. Raises ``RolloutRefused``, ``NotFoundError``.

        It waits for nothing that is under way: what the verb made pointless is left to itself, and can change nothing
        any more.
        """
        with self._lock:
            state = self._state
            if state is None:
                raise self._none()
            if request in state.requests:
                return state
            return self._save(verbs.answered(verb(state, self._clock()), request))

    def tick(self) -> bool:
        """Do the next action, or make the next decision; tell whether anything changed."""
        before = self._state
        if before is None or before.settled:
            return False
        state = self._tend()
        if state is not before:
            return True
        return self._act(state.actions[0]) if state.actions else self._decide(state)

    def deliver(self) -> bool:
        """Hand the first note of each lane to the tracking store; tell whether any was taken or given up."""
        return self._told("registry") | self._told("runs")

    def notify(self) -> bool:
        """Tell the next hook; tell whether it heard, or was given up."""
        return self._told("hooks")

    def beat(self) -> None:
        """Leave a sign of life for those who watch, while there is something to watch."""
        state = self._state
        if state is not None and not state.settled:
            self._files.beat(self._glance)

    def look_around(self) -> None:
        """See what both arms have done since the current step began, for those who watch.

        Raises:
            ServiceError: the service does not answer; the last look stays.
        """
        state = self._state
        if state is None or state.settled:
            return
        seen = self._ports.service(self._name, self._storage).observe().only(columns=False, slices=False)
        place = (state.id, state.step)
        if self._window is None or self._window[0] != place:
            self._window = (place, seen)
        began = state.analysis.baseline if state.analysis and state.analysis.baseline else self._window[1]
        self._glance = glance(state.id, (state.stable, state.canary), seen, began).to_text()

    def _act(self, action: Action) -> bool:
        if self._clock() < action.not_before:
            return False
        try:
            if not self._go_on(action):
                return True
            service = self._connected()
            self._apart(lambda: perform(action, service), lambda: self._wants(action))
        except Overtaken:
            # What was left behind may still reach the service: from now on it carries an old number, and is refused.
            with self._lock:
                self._files.claim()
                self._service = None
            return True
        except StaleController:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the service does, the rollout must come to its end
            self._service = None
            permanent, why = isinstance(error, UsageError | BundleError), str(error)
            self._step(lambda state: failed(state, action, self._clock(), why, permanent=permanent))
            return True
        self._step(lambda state: acknowledged(state, action, self._clock()))
        return True

    def _go_on(self, action: Action) -> bool:
        """Read the traffic back, once after a restart; tell whether the action is still to be done."""
        if not self._read_back:
            reach("read_back.before")
            plan = self._apart(self._connected().plan, lambda: self._wants(action))
            reach("read_back.after")
            self._step(lambda state: read_back(state, plan, self._clock()))
            self._read_back = True
        return self._is_next(action)

    def _decide(self, state: RolloutState) -> bool:
        at = _mark(state)
        try:
            seen = self._apart(lambda: self._look(state), lambda: _mark(self._state) == at)
        except Overtaken:
            return True
        with self._lock:
            before = self._state  # notes may have been taken meanwhile
            assert before is not None
            if _mark(before) != at:
                return True
            after = self._save(decide(before, seen, self._clock()))
            self._read_back = self._read_back or seen.plan is not None
            return after is not before

    def _look(self, state: RolloutState) -> Seen:
        plan, observation, why = None, None, ""
        now = self._clock()
        try:
            service = self._connected()
            plan = service.plan()
            if wants_observation(state, now):
                reach("observe.before")
                observation = service.observe()
                reach("observe.after")
        except Exception as error:  # noqa: BLE001 - what cannot be read gives no verdict
            self._service = None
            why = str(error) or type(error).__name__
        return Seen(plan, observation, why, measured(wants_external(state, now)))

    def _told(self, lane: Lane) -> bool:
        state = self._state
        if state is None:
            return False
        if state.notes:
            self._files.check()
        settle = self._outbox.deliver(lane, state)
        if settle is None:
            return False
        self._step(lambda current: settle(current, self._clock()))
        return True

    def _tend(self) -> RolloutState:
        """Decide what time alone decides, such as that an action was open for too long."""
        return self._step(lambda state: tended(state, self._clock()))

    def _wants(self, action: Action) -> bool:
        self._tend()
        return self._is_next(action)

    def _is_next(self, action: Action) -> bool:
        state = self._state
        return state is not None and bool(state.actions) and state.actions[0].id == action.id

    def _apart(self, work: Callable[[], T], wanted: Callable[[], bool]) -> T:
        return Apart(work, self._changed).result(wanted)

    def _connected(self) -> ServicePort:
        service = self._service
        if service is None:
            fence = self._files.fence
            assert fence is not None
            service = self._service = self._ports.service(self._name, self._storage).fenced(fence)
        return service

    def _step(self, move: Callable[[RolloutState], RolloutState]) -> RolloutState:
        with self._lock:
            assert self._state is not None
            return self._save(move(self._state))

    def _save(self, state: RolloutState) -> RolloutState:
        if state is not self._state:
            state = announced(self._state, state)
            self._files.write(state, self._clock())
            self._state = state
            self._changed.notify_all()
        return state


def _mark(state: RolloutState | None) -> object:
    """Return what a look at the service is for: where it changes, the look is pointless."""
    return (
        None if state is None else (state.id, state.phase, state.paused_for, state.step, state.requests, state.actions)
    )


def _wish(order: Order) -> str:
    return order.kind if order.version is None else f"start one to v{order.version.number}"
