"""The rollouts of one service in an object store, for the same readers and writers as the SQLite file of a folder.

``rollouts.json`` holds the current rollout, the fencing number and which rollouts were before; it is replaced by
conditional writes alone, each of which needs that the object still is in the state that was read. An earlier rollout
has an object of its own, ``rollouts/ID-GENERATION.json``, written before the first state that names it, and never
again. ``rollout.beat`` is the sign of life. What a file does in a transaction, one conditional write does here.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rayline.errors import ServiceError, StaleController
from rayline.rollout.failpoints import reach
from rayline.rollout.state import RolloutState
from rayline.rollout.storage.storage import Signs
from rayline.serving.names import service_folder
from rayline.storage.objects import Object, Objects, objects
from rayline.storage.places import place_of

HEAD, BEFORE, BEAT = "rollouts.json", "rollouts", "rollout.beat"
LAYOUT = 1
BEAT_SECONDS = 4.0
"""Between two signs of life: each is a request that is paid for."""
LOOK_SECONDS = 1.0
"""Between two looks of one who watches."""
ATTEMPTS = 20


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """What is replaced as a whole.

    Attributes:
        fence: the highest number that was taken.
        generation: rises with each change.
        by: who wrote it: a mark that no other writer has.
        clock: what the last writer's clock showed, Unix time.
        current: the current rollout, or None before the first.
        before: the earlier ones, by id: the names of their objects.
    """

    fence: int
    generation: int
    by: str
    clock: float = 0.0
    current: dict[str, Any] | None = None
    before: dict[str, str] = msgspec.field(default_factory=dict)
    layout: int = LAYOUT


class _Beat(msgspec.Struct, frozen=True):
    """A sign of life: whose, how many there were, and what was seen of the service."""

    fence: int = 0
    beats: int = 0
    glance: str = ""


class RolloutObjects:
    """The rollouts of one service. Meets what ``RolloutFiles`` does; every method may raise ``StorageError``."""

    def __init__(self, storage: str | Path, service: str) -> None:
        """Name the objects; nothing is read or made."""
        self.storage = str(storage)
        self.service = service
        place = place_of(service_folder(storage, service))
        assert place is not None, f"'{storage}' is no object store"
        self._bucket: Objects = objects(place.scheme, place.bucket)
        self._key = place.key
        self.uri = f"{place.uri}/{HEAD}"
        self._lock = threading.RLock()
        self._mark = ""
        self._fence: int | None = None
        self._head: _Head | None = None
        self._tag: str | None = None
        self._beat = _Beat()
        self._beaten = 0.0
        self._looked = 0.0
        self._signs: Signs = (0, 0)
        self._known: dict[str, RolloutState] = {}

    def another(self) -> RolloutObjects:
        """Return a handle of its own to the same objects, without a claim."""
        return RolloutObjects(self.storage, self.service)

    @property
    def fence(self) -> int | None:
        """The fencing number that was taken last; None where this is a mere reader."""
        return self._fence

    def claim(self) -> int:
        """Take the next fencing number, from which on whoever holds a lower one cannot write. Returns it.

        Raises:
            ServiceError: the object is damaged, or others take numbers all the time.
        """
        reach("claim.before")
        with self._lock:
            self._mark = uuid.uuid4().hex
            for _ in range(ATTEMPTS):
                head = self._read()
                # Replicas remember the highest number they were given: one that begins anew must lie above those of an
                # object that was deleted.
                base = head or _Head(fence=int(time.time()), generation=1, by="")
                if self._swapped(msgspec.structs.replace(base, fence=base.fence + 1, by=self._mark)):
                    self._fence = base.fence + 1
                    break
            else:
                raise ServiceError(f"'{self.uri}' was changed by others {ATTEMPTS} times in a row. Try again.")
        reach("claim.after")
        return self._fence

    def check(self) -> None:
        """Make sure that nobody has taken over. Raises ``StaleController``."""
        with self._lock:
            if self._fence is not None:
                head = self._peek()
                if head is None or head.fence != self._fence:
                    raise self._stale(head)

    def close(self) -> None:
        """Let go of the objects. The fencing number stays taken."""
        with self._lock:
            self._fence, self._mark = None, ""

    def read(self) -> RolloutState | None:
        """Return the current rollout, or None before the first. Raises ``ServiceError`` where it is damaged."""
        with self._lock:
            head = self._head if self._fence is not None else self._read()
            return None if head is None or head.current is None else self._parsed(head.current)

    def known(self, rollout: str) -> RolloutState | None:
        """Return the rollout of an id, or None. Raises ``ServiceError`` where it is damaged."""
        with self._lock:
            head = self._head if self._fence is not None else self._read()
            if head is None:
                return None
            if head.current is not None and head.current["id"] == rollout:
                return self._parsed(head.current)
            return self._earlier(head.before[rollout]) if rollout in head.before else None

    def clock(self) -> float:
        """Return what the clock of whoever wrote last showed, as Unix time; 0 before the first."""
        with self._lock:
            head = self._head if self._fence is not None else self._read()
            return head.clock if head is not None else 0.0

    def write(self, state: RolloutState, at: float = 0.0) -> None:
        """Make ``state`` the current rollout's; when this returns the store has it. An earlier one is kept as it was.

        A writer without a claim takes one. ``at`` is what its clock shows.

        Raises:
            StaleController: another controller has taken over, and nothing was written.
        """
        with self._lock:
            if self._fence is None:
                self.claim()
            reach("write.before")
            for _ in range(2):
                head = self._head
                assert head is not None
                before = self._with_current_put_away(head, state.id)
                changed = msgspec.structs.replace(
                    head,
                    generation=head.generation + 1,
                    by=self._mark,
                    clock=at,
                    current=state.to_json(),
                    before=before,
                )
                if self._swapped(changed):
                    break
                self._read_own()  # a write of ours whose answer was lost
            else:
                raise self._stale(self._peek())
            reach("write.after")

    def history(self) -> tuple[RolloutState, ...]:
        """Return all rollouts, the latest first. Raises ``ServiceError`` where one is damaged."""
        with self._lock:
            head = self._head if self._fence is not None else self._read()
            if head is None:
                return ()
            first = [self._parsed(head.current)] if head.current is not None else []
            return (*first, *(self._earlier(head.before[each]) for each in sorted(head.before, reverse=True)))

    def beat(self, glance: str = "") -> None:
        """Leave a sign that the controller is at work, and what it saw last; at most every ``BEAT_SECONDS``.

        Raises:
            StaleController: another controller has taken over.
        """
        with self._lock:
            if self._fence is None or (time.monotonic() - self._beaten < BEAT_SECONDS and self._beat.fence):
                return
            self.check()
            beats = self._beat.beats or self._last_beat().beats
            self._beat = _Beat(self._fence, beats + 1, glance)
            self._bucket.put(f"{self._key}/{BEAT}", msgspec.json.encode(self._beat))
            self._beaten = time.monotonic()

    def glance(self) -> str:
        """Return what the controller saw of the service last; empty where that is nothing."""
        return self._last_beat().glance

    def signs(self) -> Signs:
        """Return what changes when a rollout moves, and when its controller is at work.

        Asked for again within ``LOOK_SECONDS`` it is the same answer.
        """
        with self._lock:
            if self._looked and time.monotonic() - self._looked < LOOK_SECONDS and self._fence is None:
                return self._signs
            head = self._peek()
            self._signs = (head.generation, self._last_beat().beats) if head is not None else (0, 0)
            self._looked = time.monotonic()
            return self._signs

    def _with_current_put_away(self, head: _Head, new: str) -> dict[str, str]:
        """Give the current rollout an object of its own where another follows it; return the names of all earlier."""
        current = head.current
        before = {each: name for each, name in head.before.items() if each != new}
        if current is None or current["id"] == new:
            return before
        name = f"{current['id']}-{head.generation}.json"
        self._bucket.put(f"{self._key}/{BEFORE}/{name}", json.dumps(current).encode())
        return {**before, str(current["id"]): name}

    def _swapped(self, head: _Head) -> bool:
        tag = self._bucket.swap(f"{self._key}/{HEAD}", msgspec.json.encode(head), self._tag)
        if tag is not None:
            self._head, self._tag = head, tag
        return tag is not None

    def _read_own(self) -> None:
        """Read the head again. Raises ``StaleController`` where it is not what this writer wrote last."""
        head = self._read()
        if head is None or (head.by, head.fence) != (self._mark, self._fence):
            raise self._stale(head)

    def _read(self) -> _Head | None:
        """Read the head, and remember it as what the next write begins from."""
        found = self._bucket.get(f"{self._key}/{HEAD}", self._tag)
        if isinstance(found, Object):
            self._head, self._tag = self._decoded(found.data), found.etag
        elif found is None:
            self._head, self._tag = None, None
        return self._head

    def _peek(self) -> _Head | None:
        """Return the head as it is now, without forgetting what the next write begins from."""
        found = self._bucket.get(f"{self._key}/{HEAD}", self._tag)
        if found == "same":
            return self._head
        return self._decoded(found.data) if isinstance(found, Object) else None

    def _last_beat(self) -> _Beat:
        found = self._bucket.get(f"{self._key}/{BEAT}")
        try:
            return msgspec.json.decode(found.data, type=_Beat) if isinstance(found, Object) else _Beat()
        except msgspec.MsgspecError:
            return _Beat()

    def _earlier(self, name: str) -> RolloutState:
        if name not in self._known:
            found = self._bucket.get(f"{self._key}/{BEFORE}/{name}")
            if not isinstance(found, Object):
                raise ServiceError(f"rollout '{self.uri}' names '{BEFORE}/{name}', which is gone.")
            self._known[name] = self._parsed(msgspec.json.decode(found.data))
        return self._known[name]

    def _decoded(self, content: bytes) -> _Head:
        try:
            head = msgspec.json.decode(content, type=_Head)
        except msgspec.MsgspecError as error:
            raise ServiceError(f"rollout '{self.uri}' is damaged: {error}. Move it away to begin anew.") from error
        if head.layout != LAYOUT:
            raise ServiceError(
                f"'{self.uri}' has layout {head.layout}; this version of Rayline reads {LAYOUT}. Use the later one."
            )
        return head

    def _parsed(self, raw: Mapping[str, Any]) -> RolloutState:
        try:
            return RolloutState.from_json(dict(raw))
        except (ValueError, ServiceError) as error:
            raise ServiceError(f"rollout '{self.uri}': {error} Move it away to begin anew.") from error

    def _stale(self, head: _Head | None) -> StaleController:
        held = "nothing any more" if head is None else f"number {head.fence}"
        return StaleController(
            f"another controller has taken over the rollouts of '{self.service}': it holds {held}, this one "
            f"{self._fence}. This one stops, and changed nothing."
        )
