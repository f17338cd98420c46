"""The one place that holds a service's traffic plan; its replicas wait for changes by long poll.

A plan is on disk before anyone hears of it, so that a restarted actor goes on where it was. Each poll carries what the
replica holds and has done. A change, or a wish to observe, starts a new round: every replica answers by polling again,
which is both the acknowledgement of the plan and the delivery of its counts.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rayline.config import Placement
from rayline.errors import ServiceError, StaleController
from rayline.serving.records.drift_watch import DriftWatch
from rayline.serving.records.observation import Observation
from rayline.serving.records.yardstick import read_yardstick
from rayline.serving.traffic import roster
from rayline.serving.traffic.last_seen import LastSeen
from rayline.serving.traffic.plan import HeaderRoute, LiveVersion, Mirror, TrafficPlan
from rayline.serving.traffic.plan_file import PlanFile
from rayline.serving.traffic.roster import Json, Replica, Roster

POLL_SECONDS = 5.0
OBSERVE_SECONDS = 2.0
PATIENCE = 10.0  # times as long as a look took, until the next
LONGEST_PAUSE = 0.1  # seconds
SHOWN = ("pid", "generation", "loaded", "placed", "failed", "memory", "records")


class LiveState:
    """The traffic plan of one service. All methods run on one event loop."""

    def __init__(self, plan_path: str, watched: bool = False) -> None:
        """Read the plan back where there is one; ``watched``: show the drift of its versions as gauges."""
        self._file = PlanFile(Path(plan_path))
        kept = self._file.read()
        self._plan: TrafficPlan | None = kept.plan
        self._fence = kept.fence
        self._round = 0
        self._roster = Roster(self._file.read_roster() if kept.plan else {}, self._file.write_roster)
        self._last_seen = LastSeen(Path(plan_path).parent)
        self._letters = itertools.count(time.time_ns())  # no number comes again after a restart
        self._changed = asyncio.Event()
        self._heard = asyncio.Event()
        if watched:
            storage = Path(plan_path).parents[2]
            DriftWatch(self._seen, lambda service: read_yardstick(storage, service)).start()

    async def plan(self) -> Json | None:
        """Return the plan, or None before the first."""
        return self._plan.to_json() if self._plan else None

    async def publish(self, raw: Json) -> int:
        """Take a plan as it is, where it is newer than the one held. Returns the generation that holds now."""
        self._adopt(TrafficPlan.from_json(raw))
        return self._current().generation

    async def claim(self, fence: int | None) -> None:
        """Note the fencing number of a changing call, on disk before it acts. None is of a person, and goes through.

        Raises:
            StaleController: a higher number was seen: whoever calls was replaced.
        """
        if fence is None or fence == self._fence:
            return
        if fence < self._fence:
            raise StaleController(
                f"a controller with fence {fence} may not change the traffic of '{self._current().service}' any more: "
                f"one with fence {self._fence} took its place."
            )
        self._file.write(self._current(), fence)
        self._fence = fence

    async def add(self, version: Json, timeout: float, fence: int | None = None) -> int:
        """Make a version live at weight 0 and wait until every replica has loaded it.

        Raises:
            ServiceError: a replica cannot load it, or not all have in time; the version is not live then.
            StaleController: as of ``claim``, for this and every method that takes a fence.
            UsageError: the number is live from another bundle.
        """
        await self.claim(fence)
        before = self._current()
        self._adopt(before.adding(LiveVersion(**version)))
        generation = self._current().generation
        wanted = self._current().version(version["number"])  # with the place that it has by now
        why = await self._held(wanted, generation, timeout)
        if not why:
            return generation
        if wanted not in before.versions and wanted in self._current().versions:
            self._adopt(self._current().removing(wanted.number))
        raise ServiceError(f"version {wanted.number} of '{before.service}' cannot be served: {why}")

    async def place(self, number: int, placement: Placement, timeout: float, fence: int | None = None) -> int:
        """Have a version answered from elsewhere; return once every replica does so.

        A replica answers from the old place until the new one is ready, so that no request is dropped.

        Raises:
            ServiceError: a replica cannot, or not all have in time; the version stays where it was then.
            NotFoundError: the version is not live.
        """
        await self.claim(fence)
        before = self._current()
        self._adopt(before.placing(number, placement))
        generation = self._current().generation
        why = await self._held(self._current().version(number), generation, timeout)
        if not why:
            return generation
        was = before.version(number).placement
        if was != placement and number in self._current().numbers:
            self._adopt(self._current().placing(number, was))
        raise ServiceError(f"version {number} of '{before.service}' cannot be placed {placement}: {why}")

    async def _held(self, wanted: LiveVersion, generation: int, timeout: float) -> str:
        """Wait until every replica holds a version in its place. Return why one does not; empty where all do."""

        def told(replica: Replica) -> str | None:
            """Return how it went there: empty where loaded, why where not, None where that is open."""
            report, number = replica.report, str(wanted.number)
            if report["generation"] < generation:
                return None
            if number in report["failed"]:
                return str(report["failed"][number])
            held = report["loaded"].get(number), report.get("placed", {}).get(number, "inline")
            return "" if held == (wanted.digest, wanted.placement) else None

        def ended() -> bool:
            answers = [told(each) for each in self._roster.live().values()]
            return self._roster.complete() and bool(answers) and (any(answers) or None not in answers)

        await self._until(ended, timeout)
        answers = {name: told(each) for name, each in self._roster.live().items()}
        failed = [f"replica {name}: {why}" for name, why in answers.items() if why]
        open_still = [name for name, answer in answers.items() if answer is None]
        if answers and not failed and not open_still:
            return ""
        return failed[0] if failed else f"not loaded in {timeout:.0f} s by {', '.join(open_still) or 'any replica'}"

    async def remove(self, number: int, fence: int | None = None) -> int:
        """Drop a version without traffic. Raises ``UsageError`` where it has some."""
        await self.claim(fence)
        self._adopt(self._current().removing(number))
        return self._current().generation

    async def weigh(self, stable: int, weights: dict[int, int], timeout: float, fence: int | None = None) -> int:
        """Set the weights and wait until every live replica follows them.

        Raises:
            UsageError: they do not fit the live versions.
            ServiceError: a live replica did not follow in time. The plan holds all the same, and is sent on.
        """
        await self.claim(fence)
        return await self._followed(self._current().weighing(stable, weights), timeout)

    async def mirror(self, mirror: Json | None, timeout: float, fence: int | None = None) -> int:
        """Set who gets copies of requests, and wait as ``weigh`` does; it raises the same."""
        await self.claim(fence)
        return await self._followed(self._current().mirroring(Mirror(**mirror) if mirror else None), timeout)

    async def route(self, routes: Sequence[Json], timeout: float, fence: int | None = None) -> int:
        """Set the header routes, and wait as ``weigh`` does; it raises the same."""
        await self.claim(fence)
        return await self._followed(self._current().routing([HeaderRoute(**each) for each in routes]), timeout)

    async def _followed(self, plan: TrafficPlan, timeout: float) -> int:
        self._adopt(plan)
        generation = self._current().generation
        await self.settled(generation, timeout)
        return generation

    async def settled(self, generation: int, timeout: float) -> None:
        """Wait until every live replica follows ``generation`` or a later one. Raises ``ServiceError``."""

        def followed() -> bool:
            return self._roster.complete() and all(each["generation"] >= generation for each in self._reports())

        if not await self._until(followed, timeout):
            behind = [name for name, each in self._roster.live().items() if each.report["generation"] < generation]
            raise ServiceError(
                f"plan {generation} of '{self._current().service}' was not acknowledged within {timeout:.1f} s by "
                f"{', '.join(behind)}; it stays in force and is sent again."
            )

    async def observe(self) -> Json:
        """Return the counts of every replica, asked for now; what a replica cannot give is its latest."""
        self._next_round()
        wanted = self._round
        await self._until(
            lambda: self._roster.complete() and all(each["round"] >= wanted for each in self._reports()),
            OBSERVE_SECONDS,
        )
        return {
            "at": time.time(),
            "generation": self._current().generation,
            "replicas": {name: each.report["stats"] for name, each in self._roster.all().items()},
        }

    def _seen(self) -> tuple[TrafficPlan, Observation] | None:
        """Return the plan and what the replicas last told, without asking them; for another thread."""
        plan, reports = self._plan, {name: each.report["stats"] for name, each in list(self._roster.all().items())}
        if plan is None:
            return None
        return plan, Observation.from_json({"at": time.time(), "generation": plan.generation, "replicas": reports})

    async def replicas(self) -> Json:
        """Return the live replicas: what each has loaded, where and of what size, why a version failed, and so on."""
        await self._roster.bury_dead()
        return {
            name: {key: each.report[key] for key in SHOWN if key in each.report}
            for name, each in self._roster.live().items()
        }

    async def pass_on(self, tag: str, request_id: str, labels: Sequence[Any]) -> bool:
        """Hand truth to the replica with a tag; to any other where that one is gone. False where none is alive.

        A letter is kept, and handed over again, until a poll says that it was received. Letters are held in memory
        alone: whoever passes truth on has stored it before.
        """
        live = self._roster.live()
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
        replica = self._roster.hear(report, actor)
        self._last_seen.tell(len(self._roster.live()), self._plan.generation if self._plan else 0)
        self._wake("_heard")
        return replica

    def _adopt(self, plan: TrafficPlan) -> None:
        if self._plan is not None and plan.generation <= self._plan.generation:
            return
        self._file.write(plan, self._fence)
        self._plan = plan
        self._next_round()

    def _next_round(self) -> None:
        self._round += 1
        self._wake("_changed")

    def _reports(self) -> list[Json]:
        return [each.report for each in self._roster.live().values()]

    def _wake(self, name: str) -> None:
        """Wake all that wait on an event, and give those who come later a fresh one."""
        event: asyncio.Event = getattr(self, name)
        setattr(self, name, asyncio.Event())
        event.set()

    async def _until(self, holds: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while True:
            heard, began = self._heard, time.monotonic()
            if holds():
                return True
            now = time.monotonic()
            if now >= deadline:
                return False
            # Each look goes through all replicas, and each of them reports: looking at every report would take a time
            # that grows with the square of their number.
            await asyncio.sleep(min(PATIENCE * (now - began), LONGEST_PAUSE))
            try:
                await asyncio.wait_for(heard.wait(), min(max(0.0, deadline - now), roster.SILENT_SECONDS))
            except TimeoutError:
                await self._roster.bury_dead()

    def _current(self) -> TrafficPlan:
        if self._plan is None:
            raise ServiceError("the service has no traffic plan yet; deploy a version first.")
        return self._plan
