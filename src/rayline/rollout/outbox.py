"""The outbox of a rollout at work: hands its notes over one by one and lane by lane, and tries again."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from rayline.errors import RaylineError, TrackingError
from rayline.rollout.delivery import call, deliver
from rayline.rollout.notes import CallHook, Lane, Note, OpenRun, lane, without
from rayline.rollout.policy.moves import unheard, unwritten
from rayline.rollout.ports import Ports, Records
from rayline.rollout.state import RolloutState

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 30.0
HOOK_ATTEMPTS = 4

Settle = Callable[[RolloutState, float], RolloutState]
"""Gives the state without a note that was taken or given up, from the state and Unix time."""


class Outbox:
    """Remembers between deliveries what is tried again and when; the notes themselves lie in the state."""

    def __init__(self, ports: Ports, storage: str, clock: Callable[[], float]) -> None:
        """Begin with nothing tried."""
        self._ports = ports
        self._storage = storage
        self._clock = clock
        self._records: tuple[str | None, Records] | None = None
        self._retries: dict[Lane, tuple[float, float, int]] = {}

    def deliver(self, which: Lane, state: RolloutState) -> Settle | None:
        """Hand over the first note of a lane. Returns what to do to the state; None where nothing came of it."""
        note = next((each for each in state.notes if lane(each) == which), None)
        if note is None or self._clock() < self._retries.get(which, (0.0, 0.0, 0))[0]:
            return None
        try:
            run = self._handed(note, state)
        except Exception as error:  # noqa: BLE001 - neither store nor hook ever stops traffic
            return self._failed(which, note, error)
        self._retries.pop(which, None)
        return lambda current, now: _taken(current, note, run)

    def _handed(self, note: Note, state: RolloutState) -> str | None:
        if isinstance(note, CallHook):
            call(note)
            return None
        return deliver(note, state.service, state.runs, self._store(state.tracking_uri))

    def _failed(self, which: Lane, note: Note, error: Exception) -> Settle | None:
        _, wait, attempts = self._retries.get(which, (0.0, FIRST_RETRY_S / 2, 0))
        reason = str(error)
        if isinstance(note, CallHook):
            if attempts + 1 >= HOOK_ATTEMPTS:
                self._retries.pop(which, None)
                return lambda current, now: unheard(current, note, now, reason, attempts + 1)
        elif isinstance(error, RaylineError) and not isinstance(error, TrackingError):
            return lambda current, now: unwritten(current, note, now, reason)
        else:
            self._records = None
        wait = min(LAST_RETRY_S, 2 * wait)
        self._retries[which] = (self._clock() + wait, wait, attempts + 1)
        return None

    def _store(self, tracking_uri: str | None) -> Records:
        if self._records is None or self._records[0] != tracking_uri:
            self._records = (tracking_uri, self._ports.records(tracking_uri, self._storage))
        return self._records[1]


def _taken(state: RolloutState, note: Note, run: str | None) -> RolloutState:
    runs = state.runs
    if isinstance(note, OpenRun) and run is not None:
        runs = {**runs, note.rollout: run}
    return replace(state, notes=without(state.notes, note), runs=runs)
