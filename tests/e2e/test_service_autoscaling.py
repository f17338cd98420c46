"""Replicas follow the load: one more while it lasts, one less when it is gone, and no request fails by it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rayline.config.service import AutoscalingConfig
from service_world import Load, World, a_world, wait_for

SCALING = AutoscalingConfig(
    min_replicas=1, max_replicas=2, target_ongoing_requests=2.0, upscale_delay=2.0, downscale_delay=4.0
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("scaling"), 22022, autoscaling=SCALING) as started:
        yield started


def replicas(world: World) -> int:
    return len(world.service.status()["replicas"])


def test_replicas_come_with_the_load_and_go_with_it_and_no_request_fails(world: World) -> None:
    assert replicas(world) == 1
    world.fault(1, "slow 0.2")  # a fifth of a second a pass: eight clients are eight requests under way
    with Load(world, clients=8) as load:
        wait_for(lambda: replicas(world) == 2, "a second replica")
        seen = len(load.answers)
        load.more(50)
        assert len(load.answers) > seen
    world.fault(1, "")
    with Load(world, clients=1) as quiet:
        wait_for(lambda: replicas(world) == 1, "the second replica to go")
        quiet.more(20)
    for each in (load, quiet):
        assert each.errors == []
        assert each.statuses(1).keys() == {200}


def test_a_replica_that_stops_answers_what_is_under_way(world: World) -> None:
    version = world.version(2)
    world.fault(2, "slow 0.05")  # measured as slow, it is computed on a thread
    world.service.load(version)
    world.fault(2, "slow 4")
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(world.predict, x_rayline_version="2")
        wait_for(lambda: world.stands(2), "the request to be with the replica, where it stays for four seconds")
        world.service.delete()
        assert asked.result(30).status_code == 200
