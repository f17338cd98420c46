"""Bad versions on a live service: what each is told or counted as, and that the stable version never notices."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayline.errors import ServiceError
from service_world import Load, World, a_world, wait_for


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("bad"), 22021, replicas=1, memory_limit_mb=1500.0) as started:
        yield started


@pytest.fixture(autouse=True)
def only_the_stable_version(world: World) -> Iterator[None]:
    yield
    world.split({1: 100})
    for number in world.service.plan().numbers[1:]:
        world.fault(number, "")
        world.service.unload(number)


def live_canary(world: World, number: int, percent: int = 30, **given: str) -> None:
    world.service.load(world.version(number, **given))
    world.split({1: 100 - percent, number: percent})


def errors(world: World, number: int) -> int:
    return world.service.observe().since(None)[number].errors


@pytest.mark.parametrize(("what", "word"), [("raise", "the network broke"), ("nan", "which is no number")])
def test_one_that_fails_when_it_is_warmed_never_goes_live(world: World, what: str, word: str) -> None:
    version = world.version(2)
    world.fault(2, what)
    with Load(world) as load, pytest.raises(ServiceError, match=f"version 2 of 'churn' cannot be served: .*{word}"):
        world.service.load(version)
    assert load.errors == []
    assert load.statuses(1).keys() == {200}
    assert world.service.plan().numbers == (1,)


@pytest.mark.parametrize("what", ["raise", "nan"])
def test_one_that_goes_bad_has_its_errors_counted_and_no_other(world: World, what: str) -> None:
    live_canary(world, 3)
    before = errors(world, 3)
    with Load(world) as load:
        world.fault(3, what)
        load.more(20, number=3, status=500)
    assert load.errors == []
    assert load.statuses(1).keys() == {200}
    assert errors(world, 3) - before == load.statuses(3)[500]
    assert errors(world, 1) == 0


def test_a_slow_one_is_slow_alone(world: World) -> None:
    live_canary(world, 4, placement="remote")
    world.fault(4, "slow 0.2")
    before = world.service.observe()
    with Load(world) as load:
        load.more(20, number=4)
        load.more(200, number=1)
    window = world.service.observe().since(before)
    assert load.errors == []
    assert load.statuses(1).keys() == load.statuses(4).keys() == {200}
    slow, stable = window[4].latency(0.5), window[1].latency(0.5)
    assert slow is not None
    assert slow >= 0.2
    assert stable is not None
    assert stable < 0.2  # the pause of the other; a millisecond on a quiet machine


def test_one_that_kills_its_process_is_taken_for_its_errors_and_the_replica_lives(world: World) -> None:
    live_canary(world, 5, placement="remote")
    replicas = {each["pid"] for each in world.service.status()["replicas"].values()}
    with Load(world) as load:
        world.fault(5, "kill")
        load.more(20, number=5, status=503)
        world.split({1: 100})
        taken_back = time.monotonic()
        load.more(100, number=1)
    assert load.errors == []
    assert load.statuses(1).keys() == {200}
    assert load.statuses(5, since=taken_back) == {}
    assert errors(world, 5) >= 20
    assert {each["pid"] for each in world.service.status()["replicas"].values()} == replicas


@pytest.mark.parametrize("placement", ["inline", "remote"])
def test_one_that_never_loads_ends_in_a_refusal_within_the_time_given(world: World, placement: str) -> None:
    number = {"inline": 6, "remote": 7}[placement]
    version = world.version(number, placement=placement)
    world.fault(number, "hang")
    began = time.monotonic()
    with (
        Load(world) as load,
        pytest.raises(ServiceError, match=f"version {number} of 'churn' cannot .*not loaded in 3 s"),
    ):
        world.service.load(version, timeout=3)
    assert time.monotonic() - began < 30
    assert load.errors == []
    assert load.statuses(1).keys() == {200}
    assert world.service.plan().numbers == (1,)


def test_one_that_stops_answering_fails_its_share_in_bounded_time_and_holds_up_nobody(world: World) -> None:
    live_canary(world, 8, placement="remote")
    with Load(world, clients=8) as load:
        world.fault(8, "hang")
        load.more(10, number=8, status=503)
        load.more(100, number=1)
    assert load.errors == []
    assert load.statuses(1).keys() == {200}


def test_one_that_wants_other_columns_is_refused(world: World) -> None:
    other = world.version(9, task="multiclass")
    with pytest.raises(ServiceError, match=r"version 9 cannot answer what stable version 1 is asked: row 0, column"):
        world.service.load(other)
    with pytest.raises(ServiceError, match="version 10 answers numbers, and stable version 1 class labels"):
        world.service.load(world.version(10, task="regression", placement="remote"))
    assert world.service.plan().numbers == (1,)


def test_one_that_does_not_fit_is_refused_with_numbers(world: World) -> None:
    large = world.version(11)
    with (Path(large.path) / "ballast").open("wb") as file:
        os.truncate(file.fileno(), 2000 * 1024**2)  # sparse: it takes no room on disk
    with pytest.raises(ServiceError, match=r"version 11 needs 2000 MB, replica holds \d+ of 1500 MB"):
        world.service.load(large)
    [memory] = [each["memory"] for each in world.service.status()["replicas"].values()]
    assert memory["limit"] == 1500
    assert 0 < memory["versions"]["1"] < memory["held"] < 1500


def test_afterwards_the_service_is_as_it_was(world: World) -> None:
    from ray import serve

    assert world.service.plan().weights == {1: 100}
    wait_for(lambda: set(serve.status().applications) == {"churn"}, "the processes of bad versions to go")
    assert world.predict().status_code == 200
