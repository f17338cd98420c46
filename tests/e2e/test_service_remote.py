"""Versions in a process of their own on a live service: moved under load, killed, and gone when nobody needs them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from rayline.errors import NotFoundError, ServiceError, StaleController
from rayline.serving.names import live_state_handle, remote_name
from rayline.serving.service import Service
from rayline.serving.traffic.plan import LiveVersion
from service_world import Load, World, a_world, wait_for

DEATHS = 5
"""How often it may die until that costs a request: one that it took, but of which Serve had not yet heard so, is asked
again and costs nothing."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("remote"), 22020, replicas=2) as started:
        started.service.load(started.version(2, placement="remote"))
        yield started


def applications() -> set[str]:
    from ray import serve

    return {name for name, each in serve.status().applications.items() if each.status.value != "DELETING"}


def pid_of(world: World, number: int) -> int:
    from ray import serve

    pid: int = serve.get_app_handle(remote_name("churn", number)).about.remote().result(timeout_s=60)["pid"]
    return pid


def kill_while_it_answers(world: World, number: int) -> None:
    pid = pid_of(world, number)
    world.fault(number, "hang")
    wait_for(lambda: world.stands(number), "a request that is being answered")
    world.fault(number, "")
    os.kill(pid, signal.SIGKILL)


def test_it_answers_as_its_bundle_does_from_a_process_of_its_own(world: World) -> None:
    reply = world.predict(x_rayline_version="2")
    assert reply.json()["predictions"] == world.bundles[2].predictor().predict(world.rows[:1]).records()
    replicas = world.service.status()["replicas"].values()
    assert [each["placed"] for each in replicas] == [{"1": "inline", "2": "remote"}] * 2
    assert pid_of(world, 2) not in {each["pid"] for each in replicas}


def test_a_bad_row_is_told_by_it_as_well(world: World) -> None:
    import httpx

    row = {**world.rows[0], "mean area": "large"}
    reply = httpx.post(
        f"{world.service.url}/predict", json={"rows": [row]}, headers={"x-rayline-version": "2"}, timeout=20
    )
    assert (reply.status_code, reply.json()["column"]) == (422, "mean area")


def test_it_moves_into_the_replicas_and_out_again_under_load_and_no_request_is_dropped(world: World) -> None:
    world.split({1: 50, 2: 50})
    with Load(world) as load:
        for placement in ("inline", "remote", "inline", "remote"):
            world.service.place(2, placement)
            load.more(100, number=2)
            assert (remote_name("churn", 2) in applications()) == (placement == "remote")
    assert load.errors == []
    assert load.statuses(1).keys() == load.statuses(2).keys() == {200}


def test_its_death_costs_its_own_share_alone_is_counted_and_passes(world: World) -> None:
    world.split({1: 70, 2: 30})
    before = world.service.observe()
    with Load(world) as load:
        for _ in range(DEATHS):
            kill_while_it_answers(world, 2)
            load.more(100, number=1)
            load.more(50, number=2, status=200)
            if load.statuses(2)[503]:
                break
    assert load.errors == []
    assert load.statuses(1).keys() == {200}
    assert load.statuses(2).keys() == {200, 503}
    window = world.service.observe().since(before)
    assert window[2].errors == load.statuses(2)[503]
    assert window[1].errors == 0


def test_a_killed_live_state_finds_it_where_it_was(world: World) -> None:
    import ray

    pid = ray.get(live_state_handle("churn").__ray_call__.remote(lambda state: os.getpid()))
    held = pid_of(world, 2)
    with Load(world) as load:
        os.kill(pid, signal.SIGKILL)
        world.split({1: 60, 2: 40})
        load.more(50, number=2)
    assert load.errors == []
    assert load.statuses(2).keys() == {200}
    assert pid_of(world, 2) == held


def test_a_controller_that_was_replaced_starts_no_process(world: World) -> None:
    world.service.fenced(7).set_weights(stable=1, weights={1: 100})
    stale = world.service.fenced(6)
    with pytest.raises(StaleController):
        stale.load(world.version(4, placement="remote"))
    with pytest.raises(StaleController):
        stale.unload(2)
    assert applications() == {"churn", "churn-v2"}


def test_one_that_cannot_be_loaded_leaves_nothing_behind(world: World) -> None:
    nowhere = LiveVersion(5, str(world.folder / "nowhere"), "0" * 64, placement="remote")
    with pytest.raises(NotFoundError, match="nowhere' does not exist"):
        world.service.load(nowhere)
    broken = world.version(6, placement="remote")
    world.fault(6, "raise")
    with pytest.raises(ServiceError, match=r"version 6 of 'churn' .* own process: RuntimeError: the network broke"):
        world.service.load(broken, timeout=120)
    wait_for(lambda: applications() == {"churn", "churn-v2"}, "the application to go")
    assert world.service.plan().numbers == (1, 2)


def test_its_process_goes_with_it(world: World) -> None:
    Service.connect("churn", world.service.storage).set_weights(stable=1, weights={1: 100})
    world.service.unload(2)
    world.service.unload(2)
    wait_for(lambda: applications() == {"churn"}, "the application to go")


def test_haproxys_own_pages_are_on_loopback_alone(world: World) -> None:
    for page in ("STATS", "METRICS"):
        port = int(os.environ[f"RAY_SERVE_HAPROXY_{page}_PORT"])
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        with pytest.raises(OSError, match="refused"), socket.create_connection((own_address(), port), timeout=5):
            pass


def own_address() -> str:
    """The address that other machines know this one by."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as candidate:
        candidate.connect(("192.0.2.1", 9))  # sends nothing
        address: str = candidate.getsockname()[0]
    return address
