"""What a rollout relies on, told of a service and of a store: the doubles keep the same laws as the real ones."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rayline.config import Placement
from rayline.errors import NotFoundError, StaleController, TrackingError, UsageError
from rayline.registry.memory import MemoryStore
from rayline.registry.store import Point
from rayline.rollout.ports import Records, ServicePort
from rayline.serving.records.observation import ArmStats, Observation
from rayline.serving.traffic.live_state import LiveState
from rayline.serving.traffic.plan import HeaderRoute, LiveVersion, Mirror, TrafficPlan
from rollout_doubles import SERVICE, Cell, FileCell, RecordsDouble, ServiceDouble, good, live_version, serve


class RealState:
    """The real keeper of the traffic plan, without Ray: its event loop in a thread, and one replica that obeys."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._state: LiveState = self._do(self._made(path))
        self.stats: dict[str, Any] = {}
        self.fence: int | None = None
        self._replica = asyncio.run_coroutine_threadsafe(self._obey(), self._loop)

    def close(self) -> None:
        self._replica.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def plan(self) -> TrafficPlan:
        return TrafficPlan.from_json(self._do(self._state.plan()))

    def fenced(self, fence: int) -> RealState:
        twin = copy.copy(self)
        twin.fence = fence
        return twin

    def load(self, version: LiveVersion) -> None:
        self._do(self._state.add(asdict(version), 5.0, self.fence))

    def unload(self, number: int) -> None:
        self._do(self._state.remove(number, self.fence))

    def set_weights(self, *, stable: int, weights: Mapping[int, int]) -> int:
        return self._do(self._state.weigh(stable, dict(weights), 5.0, self.fence))

    def set_mirror(self, mirror: Mirror | None) -> int:
        return self._do(self._state.mirror(asdict(mirror) if mirror else None, 5.0, self.fence))

    def set_routes(self, routes: Sequence[HeaderRoute]) -> int:
        return self._do(self._state.route([asdict(each) for each in routes], 5.0, self.fence))

    def place(self, number: int, placement: Placement) -> None:
        self._do(self._state.place(number, placement, 5.0, self.fence))

    def observe(self) -> Observation:
        return Observation.from_json(self._do(self._state.observe()))

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _made(self, path: Path) -> LiveState:
        state = LiveState(str(path))
        await state.publish(TrafficPlan.first(SERVICE, live_version(1)).to_json())
        return state

    async def _obey(self) -> None:
        report: dict[str, Any] = {"replica": "r", "round": -1, "generation": 0, "loaded": {}, "failed": {}}
        while True:
            answer = await self._state.poll({**report, "stats": self.stats})
            report["round"] = answer["round"]
            if answer["plan"] is not None:
                plan = TrafficPlan.from_json(answer["plan"])
                report["generation"] = plan.generation
                report["loaded"] = {str(version.number): version.digest for version in plan.versions}
                report["placed"] = {str(version.number): version.placement for version in plan.versions}


Feed = Callable[[int, ArmStats], None]


@pytest.fixture(params=["double", "double in a file", "live state"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ServicePort, Feed]]:
    if request.param == "live state":
        real = RealState(tmp_path / "plan.json")
        yield real, lambda number, more: real.stats.update({str(number): more.to_json()})
        real.close()
    else:
        cell = Cell() if request.param == "double" else FileCell(tmp_path / "world.json")
        yield ServiceDouble(cell), lambda number, more: serve(cell, number, more)


def test_a_loaded_version_has_no_traffic(service: tuple[ServicePort, Feed]) -> None:
    port, _ = service
    before = port.plan().generation
    port.load(live_version(2))
    plan = port.plan()
    assert (plan.numbers, plan.stable, plan.weights.get(2, 0)) == ((1, 2), 1, 0)
    assert plan.generation > before


def test_doing_it_twice_changes_nothing(service: tuple[ServicePort, Feed]) -> None:
    port, _ = service
    port.load(live_version(2))
    first = port.set_weights(stable=1, weights={1: 90, 2: 10})
    port.load(live_version(2))
    assert port.set_weights(stable=1, weights={1: 90, 2: 10}) == first
    assert port.plan().weights == {1: 90, 2: 10}
    port.set_weights(stable=1, weights={1: 100})
    port.unload(2)
    generation = port.plan().generation
    port.unload(2)
    assert port.plan().generation == generation


def test_traffic_goes_to_loaded_versions_only(service: tuple[ServicePort, Feed]) -> None:
    port, _ = service
    with pytest.raises(UsageError):
        port.set_weights(stable=1, weights={1: 90, 2: 10})
    assert port.plan().weights == {1: 100}


def test_mirror_routes_and_placement_hold_when_told_and_are_ended_with_their_version(
    service: tuple[ServicePort, Feed],
) -> None:
    port, _ = service
    port.load(live_version(2))
    route = HeaderRoute("x-team", "blue", 2)
    for _ in range(2):
        mirrored = port.set_mirror(Mirror(2, 20))
    for _ in range(2):
        routed = port.set_routes([route])
    for _ in range(2):
        port.place(2, "remote")
    plan = port.plan()
    assert (plan.mirror, plan.routes, plan.version(2).placement) == (Mirror(2, 20), (route,), "remote")
    assert plan.generation == routed + 1 == mirrored + 2, "doing it twice changes nothing"
    port.unload(2)
    assert (port.plan().mirror, port.plan().routes) == (None, ())
    with pytest.raises(UsageError):
        port.set_mirror(Mirror(9, 20))


def test_a_controller_that_was_replaced_changes_nothing(service: tuple[ServicePort, Feed]) -> None:
    port, _ = service
    old, new = port.fenced(4), port.fenced(5)
    old.load(live_version(2))
    new.set_weights(stable=1, weights={1: 90, 2: 10})
    before = port.plan()
    for change in (
        lambda: old.load(live_version(3)),
        lambda: old.set_weights(stable=1, weights={1: 10, 2: 90}),
        lambda: old.set_mirror(Mirror(2, 1)),
        lambda: old.set_routes([HeaderRoute("x", "y", 2)]),
        lambda: old.place(2, "remote"),
        lambda: old.unload(2),
    ):
        with pytest.raises(StaleController):
            change()
    assert port.plan() == before == old.plan()
    new.set_weights(stable=1, weights={1: 100})


def test_weights_must_add_up(service: tuple[ServicePort, Feed]) -> None:
    port, _ = service
    port.load(live_version(2))
    with pytest.raises(UsageError):
        port.set_weights(stable=1, weights={1: 90, 2: 20})


@pytest.mark.parametrize("number", [1, 2])
def test_a_version_with_traffic_is_not_unloaded(service: tuple[ServicePort, Feed], number: int) -> None:
    port, _ = service
    port.load(live_version(2))
    port.set_weights(stable=1, weights={1: 50, 2: 50})
    with pytest.raises(UsageError):
        port.unload(number)
    assert port.plan().numbers == (1, 2)


def test_the_canary_takes_over(service: tuple[ServicePort, Feed]) -> None:
    port, _ = service
    port.load(live_version(2))
    port.set_weights(stable=1, weights={1: 0, 2: 100})
    port.set_weights(stable=2, weights={2: 100})
    port.unload(1)
    plan = port.plan()
    assert (plan.stable, plan.numbers, plan.weights) == (2, (2,), {2: 100})


def test_counts_grow_and_a_window_is_a_difference(service: tuple[ServicePort, Feed]) -> None:
    port, feed = service
    feed(1, good(100))
    earlier = port.observe()
    feed(1, good(100).plus(good(60)) if not isinstance(port, ServiceDouble) else good(60))
    found = port.observe().since(earlier)[1]
    assert (found.requests, found.feedback, found.correct) == (60, 60, 60)


@pytest.fixture(params=["double", "memory store"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Records:
    if request.param == "double":
        return RecordsDouble(Cell())
    store = MemoryStore()
    run_id = store.start_run("exp", "train", {})
    for number in (1, 2):
        bundle: Any = SimpleNamespace(name=SERVICE, digest=f"digest-{number}", path=tmp_path)
        store.register(bundle, run_id)
    return store


def test_an_alias_is_at_one_version(records: Records) -> None:
    for _ in range(2):
        records.set_alias(SERVICE, "champion", 1)
        records.set_alias(SERVICE, "champion", 2)
    assert records.version(SERVICE, "@champion").number == 2
    assert "champion" not in records.version(SERVICE, "1").aliases


def test_a_dropped_alias_is_nowhere(records: Records) -> None:
    records.set_alias(SERVICE, "challenger", 2)
    for _ in range(2):
        records.drop_alias(SERVICE, "challenger")
    with pytest.raises(NotFoundError):
        records.version(SERVICE, "@challenger")


def test_tags_join_those_that_are_there(records: Records) -> None:
    records.tag_version(SERVICE, 2, {"a": "1", "b": "1"})
    records.tag_version(SERVICE, 2, {"b": "2"})
    tags = records.version(SERVICE, "2").tags
    assert (tags["a"], tags["b"]) == ("1", "2")


def test_an_unknown_version_is_not_found_which_trying_again_does_not_help(records: Records) -> None:
    for write in (
        lambda: records.set_alias(SERVICE, "champion", 77),
        lambda: records.tag_version(SERVICE, 77, {"a": "1"}),
    ):
        with pytest.raises(NotFoundError) as caught:
            write()
        assert not isinstance(caught.value, TrackingError)


def test_a_run_takes_what_a_rollout_writes(records: Records) -> None:
    run_id = records.start_run("exp", "rollout", {"rayline.kind": "rollout"})
    assert records.start_run("exp", "rollout", {}) != run_id
    records.log_metrics(run_id, (Point("weight", 10.0, 0, 1), Point("weight", 50.0, 1, 2)))
    for text in ("{}", "[]"):
        records.log_text(run_id, text, "rollout/decisions.json")
    records.set_tags(run_id, {"rayline.phase": "Healthy"})
    records.finish_run(run_id, "FINISHED")
    records.log_metrics(run_id, (Point("weight", 100.0, 2, 3),))
    with pytest.raises(NotFoundError):
        records.finish_run("no-such-run", "FINISHED")
