"""The live state without Ray: plans reach replicas that wait, come back from disk, and are acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from rayline.errors import ServiceError, StaleController, UsageError
from rayline.serving.records.observation import ArmStats, Observation
from rayline.serving.traffic import roster
from rayline.serving.traffic.live_state import LiveState
from rayline.serving.traffic.plan import HeaderRoute, LiveVersion, Mirror, TrafficPlan

ONE, TWO = LiveVersion(1, "/bundles/1", "a" * 64), LiveVersion(2, "/bundles/2", "b" * 64)
FIRST = TrafficPlan.first("churn", ONE)
VERSION_TWO = {"number": 2, "path": "/bundles/2", "digest": "b" * 64}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


class FakeReplica:
    """Polls as a replica does; loads what ``loads`` allows."""

    def __init__(self, state: LiveState, name: str, *, loads: bool = True) -> None:
        self.state, self.name, self.loads = state, name, loads
        self.plan: TrafficPlan | None = None
        self.round = 0
        self.mail: list[dict[str, Any]] = []
        self.received: list[int] = []
        self.task = asyncio.ensure_future(self.follow())

    def report(self) -> dict[str, Any]:
        held = self.plan.versions if self.plan else ()
        fails = {str(each.number): "damaged" for each in held if each.number > 1 and not self.loads}
        return {
            "replica": self.name,
            "pid": 1,
            "round": self.round,
            "generation": self.plan.generation if self.plan else 0,
            "loaded": {str(each.number): each.digest for each in held if str(each.number) not in fails},
            "placed": {str(each.number): each.placement for each in held},
            "failed": fails,
            "stats": {"1": ArmStats(requests=self.round).to_json()},
        }

    async def follow(self) -> None:
        while True:
            answer = await self.state.poll({**self.report(), "received": self.received})
            self.round = answer["round"]
            self.mail += answer["mail"]
            self.received = [letter["letter"] for letter in answer["mail"]]
            if answer["plan"]:
                self.plan = TrafficPlan.from_json(answer["plan"])


async def started(path: Path, *names: str) -> tuple[LiveState, list[FakeReplica]]:
    state = LiveState(str(path / "plan.json"))
    await state.publish(FIRST.to_json())
    replicas = [FakeReplica(state, name) for name in names]
    await state.settled(1, 5)
    while len(await state.replicas()) < len(names):
        await asyncio.sleep(0)
    return state, replicas


def test_a_change_is_on_disk_and_with_every_replica_when_it_returns(tmp_path: Path) -> None:
    async def story() -> None:
        state, replicas = await started(tmp_path, "a", "b")
        assert await state.add(VERSION_TWO, 5) == 2
        assert await state.weigh(1, {1: 90, 2: 10}, 5) == 3
        assert {replica.plan.generation for replica in replicas if replica.plan} == {3}
        assert json.loads((tmp_path / "plan.json").read_text())["weights"] == {"1": 90, "2": 10}

    run(story())


def test_the_same_change_again_changes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        state, _ = await started(tmp_path, "a")
        assert [await state.add(VERSION_TWO, 5) for _ in range(2)] == [2, 2]
        assert [await state.weigh(1, {1: 50, 2: 50}, 5) for _ in range(2)] == [3, 3]
        assert await state.publish(FIRST.to_json()) == 3

    run(story())


def test_a_version_that_one_replica_cannot_load_is_taken_out_again(tmp_path: Path) -> None:
    async def story() -> None:
        state, replicas = await started(tmp_path, "a", "b")
        replicas[1].loads = False
        with pytest.raises(ServiceError, match="version 2 of 'churn' cannot be served: replica b: damaged"):
            await state.add(VERSION_TWO, 5)
        plan = TrafficPlan.from_json(await state.plan() or {})
        assert plan.numbers == (1,)
        replicas[1].loads = True
        await state.add(VERSION_TWO, 5)

    run(story())


def test_without_a_replica_a_version_cannot_be_loaded(tmp_path: Path) -> None:
    async def story() -> None:
        state, _ = await started(tmp_path)
        with pytest.raises(ServiceError, match="not loaded in 0 s by any replica"):
            await state.add(VERSION_TWO, 0.1)

    run(story())


def test_weights_that_do_not_fit_are_refused_and_change_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        state, _ = await started(tmp_path, "a")
        with pytest.raises(UsageError, match="not live"):
            await state.weigh(1, {7: 100}, 5)
        assert await state.plan() == FIRST.to_json()

    run(story())


def test_a_replica_that_does_not_follow_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        state, replicas = await started(tmp_path, "a", "b")
        await state.add(VERSION_TWO, 5)
        replicas[1].task.cancel()
        with pytest.raises(ServiceError, match=r"not acknowledged within 0\.2 s by b; it stays in force"):
            await state.weigh(1, {1: 50, 2: 50}, 0.2)
        assert (await state.plan() or {})["weights"] == {"1": 50, "2": 50}

    run(story())


class DeadActor:
    """What a handle to a killed replica does."""

    class __ray_ready__:  # noqa: N801 - the name that Ray gives it
        @staticmethod
        async def remote() -> None:
            from ray.exceptions import ActorDiedError

            raise ActorDiedError


def test_a_dead_replica_is_not_waited_for_and_its_counts_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "SILENT_SECONDS", 0.05)

    async def story() -> None:
        state, replicas = await started(tmp_path, "a", "b")
        await state.add(VERSION_TWO, 5)
        replicas[1].task.cancel()
        await asyncio.gather(replicas[1].task, return_exceptions=True)
        await state.report(replicas[1].report(), DeadActor())
        assert await state.weigh(1, {1: 50, 2: 50}, 5) == 3
        seen = Observation.from_json(await state.observe())
        assert set(seen.replicas) == {"a", "b"}
        assert set(await state.replicas()) == {"a"}

    run(story())


def test_an_observation_is_of_now(tmp_path: Path) -> None:
    async def story() -> None:
        state, _ = await started(tmp_path, "a")
        first = Observation.from_json(await state.observe())
        second = Observation.from_json(await state.observe())
        assert second.replicas["a"][1].requests == first.replicas["a"][1].requests + 1

    run(story())


def test_truth_for_another_replica_is_handed_to_it(tmp_path: Path) -> None:
    async def story() -> None:
        state, replicas = await started(tmp_path, "replica-aaaaaaaa", "replica-bbbbbbbb")
        assert await state.pass_on("bbbbbbbb", "1-bbbbbbbb00000000", ["yes"])
        while not replicas[1].mail:
            await asyncio.sleep(0)
        assert await state.pass_on("bbbbbbbb", "1-bbbbbbbb00000001", ["no"])
        while len(replicas[1].mail) < 2:
            await asyncio.sleep(0)
        heard = [(letter["request_id"], letter["labels"]) for letter in replicas[1].mail]
        assert heard == [("1-bbbbbbbb00000000", ["yes"]), ("1-bbbbbbbb00000001", ["no"])]
        assert replicas[0].mail == []

    run(story())


def test_truth_is_handed_over_again_until_it_was_received(tmp_path: Path) -> None:
    async def story() -> None:
        state, replicas = await started(tmp_path, "a")
        replicas[0].task.cancel()
        await asyncio.gather(replicas[0].task, return_exceptions=True)
        await state.pass_on("a", "1-bbbbbbbb00000000", ["yes"])
        lost = (await state.poll(replicas[0].report()))["mail"]
        again = (await state.poll(replicas[0].report()))["mail"]
        assert [letter["request_id"] for letter in again] == ["1-bbbbbbbb00000000"]
        assert again == lost
        await state.pass_on("a", "1-bbbbbbbb00000001", ["no"])
        received = {**replicas[0].report(), "received": [letter["letter"] for letter in again]}
        assert [letter["labels"] for letter in (await state.poll(received))["mail"]] == [["no"]]

    run(story())


def test_a_restarted_state_goes_on_where_it_was(tmp_path: Path) -> None:
    async def story() -> None:
        state, _ = await started(tmp_path, "a")
        await state.add(VERSION_TWO, 5)
        await state.weigh(1, {1: 90, 2: 10}, 5)
        restarted = LiveState(str(tmp_path / "plan.json"))
        assert await restarted.plan() == await state.plan()
        late = FakeReplica(restarted, "a")
        assert await restarted.weigh(1, {1: 80, 2: 20}, 5) == 4
        assert late.plan is not None
        assert late.plan.weights == {1: 80, 2: 20}

    run(story())


def test_before_the_first_plan_there_is_nothing_to_change(tmp_path: Path) -> None:
    async def story() -> None:
        state = LiveState(str(tmp_path / "plan.json"))
        assert await state.plan() is None
        with pytest.raises(ServiceError, match="deploy a version first"):
            await state.remove(1)

    run(story())


def test_a_damaged_plan_is_told_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"format": 1}')
    with pytest.raises(ServiceError, match=r"plan\.json' is damaged"):
        LiveState(str(path))


def test_a_mirror_and_routes_are_with_every_replica_when_set_and_setting_them_again_changes_nothing(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        state, replicas = await started(tmp_path, "a", "b")
        await state.add(VERSION_TWO, 5)
        assert [await state.mirror({"number": 2, "percent": 20}, 5) for _ in range(2)] == [3, 3]
        route = {"header": "x-team", "value": "blue", "number": 2}
        assert [await state.route([route], 5) for _ in range(2)] == [4, 4]
        for replica in replicas:
            assert replica.plan is not None
            assert replica.plan.mirror == Mirror(2, 20)
            assert replica.plan.routes == (HeaderRoute("x-team", "blue", 2),)
        assert await state.mirror(None, 5) == 5
        with pytest.raises(UsageError, match="cannot be sent to version 9"):
            await state.route([{**route, "number": 9}], 5)

    run(story())


def test_a_version_moves_once_every_replica_has_moved_it_and_stays_where_one_cannot(tmp_path: Path) -> None:
    async def story() -> None:
        state, replicas = await started(tmp_path, "a", "b")
        await state.add({**VERSION_TWO, "placement": "remote"}, 5)
        await state.place(2, "inline", 5)
        assert {each.plan.version(2).placement for each in replicas if each.plan} == {"inline"}
        assert await state.add({**VERSION_TWO, "placement": "remote"}, 5) == 3  # the same load again moves nothing
        replicas[0].loads = False
        with pytest.raises(ServiceError, match="version 2 of 'churn' cannot be placed remote: replica a: damaged"):
            await state.place(2, "remote", 5)
        assert TrafficPlan.from_json(await state.plan() or {}).version(2).placement == "inline"

    run(story())


def test_a_controller_that_was_replaced_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    async def story() -> None:
        state, _ = await started(tmp_path, "a")
        await state.add(VERSION_TWO, 5, 4)
        await state.weigh(1, {1: 90, 2: 10}, 5, 5)
        restarted = LiveState(str(tmp_path / "plan.json"))
        FakeReplica(restarted, "a")
        for held in (state, restarted):
            for change in (
                held.add(VERSION_TWO, 5, 4),
                held.remove(2, 4),
                held.weigh(1, {1: 100}, 5, 4),
                held.mirror(None, 5, 4),
                held.route([], 5, 4),
                held.place(2, "remote", 5, 4),
            ):
                with pytest.raises(StaleController, match=r"fence 4 may not change .*'churn'.*fence 5 took its place"):
                    await change
        assert await restarted.weigh(1, {1: 100}, 5) == 4  # a person's change carries none

    run(story())


def test_a_restarted_state_waits_for_the_replicas_that_it_had_and_for_no_longer(tmp_path: Path) -> None:
    async def story() -> None:
        await started(tmp_path, "a", "b")
        restarted = LiveState(str(tmp_path / "plan.json"))
        FakeReplica(restarted, "a")
        early = asyncio.ensure_future(restarted.settled(1, 5))
        await asyncio.sleep(0.05)
        assert not early.done()  # b may follow an older plan, for all that is known
        FakeReplica(restarted, "b")
        await asyncio.wait_for(early, 1)

    run(story())
