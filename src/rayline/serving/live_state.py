"""The one place that holds a service's traffic plan; its replicas wait for changes by long poll.

A plan is on disk before anyone hears of it, so that a restarted actor goes on where it was. Each poll carries what the
replica holds and has done. A change, or a wish to observe, starts a new round: every replica answers by polling again,
which is both the acknowledgement of the plan and the delivery of its counts.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayline.errors import ServiceError
from rayline.serving.plan import LiveVersion, TrafficPlan

POLL_SECONDS = 5.0
SILENT_SECONDS = 0.5
FORGET_SECONDS = 15.0
OBSERVE_SECONDS = 2.0
RETURN_SECONDS = 3.0
GONE_KEPT = 32

Json = dict[str, Any]


@dataclass(slots=True)
class Replica:
    """One replica, as it was last heard."""

    report: Json
    actor: Any
    heard: float
    polling: bool = False
    gone: bool = False
    mail: list[Json] = field(default_factory=list)


class LiveState:
    """The traffic plan of one service. All methods run on one event loop."""

    def __init__(self, plan_path: str) -> None:
        """Read the plan back where there is one."""
        self._path = Path(plan_path)
        self._plan: TrafficPlan | None = read_plan(self._path)
        self._round = 0
        # After a restart the replicas take a moment to come back; until then an empty room proves nothing.
        self._complete_from = time.monotonic() + (RETURN_SECONDS if self._plan else 0.0)
        self._replicas: dict[str, Replica] = {}
        self._letters = itertools.count(time.time_ns())  # no number comes again after a restart
        self._changed = asyncio.Event()
        self._heard = asyncio.Event()

    async def plan(self) -> Json | None:
        """Return the plan, or None before the first."""
        return self._plan.to_json() if self._plan else None

    async def publish(self, raw: Json) -> int:
        """Take a plan as it is, where it is newer than the one held. Returns the generation that holds now."""
        self._adopt(TrafficPlan.from_json(raw))
        return self._current().generation

    async def add(self, version: Json, timeout: float) -> int:
        """Make a version live at weight 0 and wait until every replica has loaded it.

        Raises:
            ServiceError: a replica cannot load it, or not all have in time; the version is not live then.
            UsageError: the number is live from another bundle.
        """
        wanted = LiveVersion(**version)
        before = self._current()
        self._adopt(before.adding(wanted))
        generation = self._current().generation

        def told(replica: Replica) -> str | None:
            """Return how it went there: empty where loaded, why where not, None where that is open."""
            report, number = replica.report, str(wanted.number)
            if report["generation"] < generation:
                return None
            return "" if report["loaded"].get(number) == wanted.digest else report["failed"].get(number)

        def ended() -> bool:
            answers = [told(each) for each in self._live().values()]
            return self._complete() and bool(answers) and (any(answers) or None not in answers)

        await self._until(ended, timeout)
        answers = {name: told(each) for name, each in self._live().items()}
        if answers and not any(answers.values()) and None not in answers.values():
            return generation
        failed = [f"replica {name}: {why}" for name, why in answers.items() if why]
        open_still = [name for name, answer in answers.items() if answer is None]
        if wanted not in before.versions:
            self._adopt(self._current().removing(wanted.number))
        raise ServiceError(
            f"version {wanted.number} of '{before.service}' cannot be served: "
            + (failed[0] if failed else f"not loaded in {timeout:.0f} s by {', '.join(open_still) or 'any replica'}")
        )

    async def remove(self, number: int) -> int:
        """Drop a version without traffic. Raises ``UsageError`` where it has some."""
        self._adopt(self._current().removing(number))
        return self._current().generation

    async def weigh(self, stable: int, weights: dict[int, int], timeout: float) -> int:
        """Set the weights and wait until every live replica follows them.

        Raises:
            UsageError: they do not fit the live versions.
            ServiceError: a live replica did not follow in time. The plan holds all the same, and is sent on.
        """
        self._adopt(self._current().weighing(stable, weights))
        generation = self._current().generation
        await self.settled(generation, timeout)
        return generation

    async def settled(self, generation: int, timeout: float) -> None:
        """Wait until every live replica follows ``generation`` or a later one. Raises ``ServiceError``."""

        def followed() -> bool:
            return self._complete() and all(each["generation"] >= generation for each in self._reports())

        if not await self._until(followed, timeout):
            behind = [name for name, each in self._live().items() if each.report["generation"] < generation]
            raise ServiceError(
                f"plan {generation} of '{self._current().service}' was not acknowledged within {timeout:.1f} s by "
                f"{', '.join(behind)}; it stays in force and is sent again."
            )

    async def observe(self) -> Json:
        """Return the counts of every replica, asked for now; what a replica cannot give is its latest."""
        self._next_round()
        wanted = self._round
        await self._until(
            lambda: self._complete() and all(each["round"] >= wanted for each in self._reports()), OBSERVE_SECONDS
        )
        return {
            "at": time.time(),
            "generation": self._current().generation,
            "replicas": {name: each.report["stats"] for name, each in self._replicas.items()},
        }

    async def replicas(self) -> Json:
        """Return the live replicas: what each has loaded, why a version failed, and its generation."""
        await self._bury_dead()
        return {
            name: {key: each.report[key] for key in ("pid", "generation", "loaded", "failed")}
            for name, each in self._live().items()
        }

    async def pass_on(self, tag: str, request_id: str, labels: Sequence[Any]) -> bool:
        """Hand truth to the replica with a tag; to any other where that one is gone. False where none is alive.

        A letter is kept, and handed over again, until a poll says that it was received. Letters are held in memory
        alone: whoever passes truth on has stored it before.
        """
        live = self._live()
        chosen = next((each for name, each in live.items() if name.endswith(tag)), next(iter(live.values()), None))
        if chosen is None:
            return False
        chosen.mail.append({"letter": next(self._letters), "request_id": request_id, "labels": list(labels)})
        self._wake("_changed")
        return True

    async def report(self, report: Json, actor: Any = None) -> None:
        """Hear what a replica holds, outside its poll."""
        self._hear(report, actor)

    async def poll(self, report: Json, actor: Any = None) -> Json:
        """Hear a replica and answer it when there is news, or after a while.

        Args:
            report: ``replica`` (its name), ``pid``, the ``round`` and ``generation`` that it has seen, ``loaded``,
                ``failed`` and ``stats``; ``received``: the letters of the last answer.
            actor: a handle to the replica, by which a silent one is told from a dead one.

        Returns:
            ``round``, ``plan`` (None where it has this generation) and ``mail``: truth passed on by other replicas.
        """
        replica = self._hear(report, actor)
        received = set(report.get("received", ()))
        replica.mail = [letter for letter in replica.mail if letter["letter"] not in received]
        replica.polling = True
        deadline = time.monotonic() + POLL_SECONDS
        try:
            while not self._news(replica) and (left := deadline - time.monotonic()) > 0:
                changed = self._changed
                try:
                    await asyncio.wait_for(changed.wait(), left)
                except TimeoutError:
                    break
        finally:
            replica.polling = False
            replica.heard = time.monotonic()
        newer = self._plan is not None and self._plan.generation > replica.report["generation"]
        plan = self._plan.to_json() if newer and self._plan is not None else None
        return {"round": self._round, "plan": plan, "mail": list(replica.mail)}

    def _news(self, replica: Replica) -> bool:
        generation = self._plan.generation if self._plan else 0
        seen = replica.report
        return bool(replica.mail) or seen["round"] != self._round or seen["generation"] < generation

    def _hear(self, report: Json, actor: Any) -> Replica:
        name = report["replica"]
        replica = self._replicas.get(name)
        if replica is None:
            replica = self._replicas[name] = Replica(report, actor, time.monotonic())
            self._forget()
        replica.report, replica.heard, replica.gone = report, time.monotonic(), False
        replica.actor = actor or replica.actor
        self._wake("_heard")
        return replica

    def _adopt(self, plan: TrafficPlan) -> None:
        if self._plan is not None and plan.generation <= self._plan.generation:
            return
        write_plan(self._path, plan)
        self._plan = plan
        self._next_round()

    def _next_round(self) -> None:
        self._round += 1
        self._wake("_changed")

    def _wake(self, name: str) -> None:
        """Wake all that wait on an event, and give those who come later a fresh one."""
        event: asyncio.Event = getattr(self, name)
        setattr(self, name, asyncio.Event())
        event.set()

    async def _until(self, holds: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not holds():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            heard = self._heard
            try:
                await asyncio.wait_for(heard.wait(), min(left, SILENT_SECONDS))
            except TimeoutError:
                await self._bury_dead()
        return True

    async def _bury_dead(self) -> None:
        """Find out which silent replicas are dead: a slow one is waited for, a dead one is not."""
        now = time.monotonic()
        for replica in list(self._live().values()):
            if not replica.polling and now - replica.heard >= SILENT_SECONDS:
                replica.gone = now - replica.heard > FORGET_SECONDS or await _is_dead(replica.actor)

    def _complete(self) -> bool:
        return time.monotonic() >= self._complete_from

    def _reports(self) -> list[Json]:
        return [each.report for each in self._live().values()]

    def _live(self) -> dict[str, Replica]:
        return {name: each for name, each in self._replicas.items() if not each.gone}

    def _forget(self) -> None:
        """Keep the counts of the latest dead replicas, so that a window over their death loses nothing."""
        gone = [name for name, each in self._replicas.items() if each.gone]
        for name in gone[: max(0, len(gone) - GONE_KEPT)]:
            del self._replicas[name]

    def _current(self) -> TrafficPlan:
        if self._plan is None:
            raise ServiceError("the service has no traffic plan yet; deploy a version first.")
        return self._plan


def read_plan(path: Path) -> TrafficPlan | None:
    """Return the plan on disk, or None where there is none. Raises ``ServiceError`` where it is damaged."""
    try:
        return TrafficPlan.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(f"traffic plan '{path}' is damaged: {error}. Delete it and deploy again.") from error


def write_plan(path: Path, plan: TrafficPlan) -> None:
    """Write the plan whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(plan.to_json(), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


async def _is_dead(actor: Any) -> bool:
    if actor is None:
        return False
    from ray.exceptions import ActorDiedError, RayActorError

    try:
        await asyncio.wait_for(actor.__ray_ready__.remote(), 1.0)
    except ActorDiedError:
        return True
    except (RayActorError, TimeoutError):
        return False
    return False
