"""The rollout's controller is killed in the middle, on a live service under load: it comes back and finishes."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rayline import cluster, config, flow, release
from rayline.config import Config
from rayline.demo.clients import Clients
from rayline.errors import RolloutRefused
from rayline.features.prepared import Prepared
from rayline.project import Project
from rayline.rollout import commands
from rayline.rollout.controller import actor_name

NAME = "wine"
ANALYSIS = {
    "interval": 0.5,
    "count": 6,
    "inconclusive_limit": 200,
    "metrics": [{"measure": "error_rate", "max": 0.01, "minimum_samples": 20}],
}


def settings(folder: Path, port: int, **changes: Any) -> Config:
    return config.parse(
        {
            "name": NAME,
            "data": {"source": "sklearn:wine"},
            "features": {"target": "target"},
            "model": {"hidden": [8]},
            "train": {"epochs": 10, "batch_size": 16, "learning_rate": 0.01},
            "service": {"port": port, "replicas": 2, "num_cpus": 0.25},
            "rollout": {"strategy": "canary", "analysis": ANALYSIS},
            "storage": str(folder),
            **changes,
        }
    )


def until(read: Callable[[], Any], what: str, seconds: float = 180.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := read()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return value


def controller_process() -> int | None:
    import ray

    try:
        actor = ray.get_actor(actor_name(NAME), namespace=cluster.NAMESPACE)
        pid: int = ray.get(actor.__ray_call__.remote(lambda self: os.getpid()), timeout=5)
    except (ValueError, ray.exceptions.RayError):
        return None
    return pid


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Config, Clients]]:
    """A service with two replicas on version 1, version 2 registered, and clients at work."""
    folder = tmp_path_factory.mktemp("wine")
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port = candidate.getsockname()[1]
    first = settings(folder, port)
    try:
        outcome = flow.run(first)
        better = settings(folder, port, model={"hidden": [16]})
        flow.run(better, until="register")
        prepared = Prepared.load(outcome.result("features")["path"])
        table = prepared.test_table()
        rows = table.select(list(prepared.features.input_columns)).to_pylist()
        with Clients(release.service_url(first), rows, table.column("target").to_pylist()) as clients:
            until(lambda: clients.requests > 50, "the first answers")
            yield better, clients
    finally:
        cluster.stop(folder)


def test_a_killed_controller_comes_back_and_finishes(live: tuple[Config, Clients]) -> None:
    better, clients = live
    project = Project(better)
    release.start(project, 2)
    status = partial(commands.status, NAME, storage=better.storage)
    until(lambda: status().weight == 10 and status().analysis is not None, "the analysis at 10 %")
    killed = until(controller_process, "the controller's process")
    os.kill(killed, signal.SIGKILL)
    ended = commands.wait(NAME, storage=better.storage, timeout=240)
    assert ended.phase == "Healthy", ended.message
    assert ended.weight == 100
    assert [decision.weight for decision in ended.decisions] == sorted(decision.weight for decision in ended.decisions)
    assert controller_process() != killed
    assert clients.failures == 0, clients.table()


def test_the_champion_moved_and_every_decision_has_its_reason(live: tuple[Config, Clients]) -> None:
    better, clients = live
    assert Project(better).store.version(NAME, "@champion").number == 2
    state = commands.status(NAME, storage=better.storage)
    assert all(decision.reason for decision in state.decisions)
    told = release.ask(release.service_url(better))
    assert told is not None
    assert told["stable"] == 2
    assert told["weights"] == {"2": 100}
    assert clients.failures == 0


def test_undo_returns_to_the_version_before_at_once(live: tuple[Config, Clients]) -> None:
    better, clients = live
    commands.undo(NAME, storage=better.storage)
    ended = commands.wait(NAME, storage=better.storage, timeout=240)
    assert (ended.phase, ended.canary) == ("Healthy", 1)
    told = release.ask(release.service_url(better))
    assert told is not None
    assert told["weights"] == {"1": 100}
    assert clients.failures == 0


def test_a_second_rollout_is_refused_and_an_abort_returns_all_traffic(live: tuple[Config, Clients]) -> None:
    better, clients = live
    waiting = config.with_values(better, {"rollout": {"steps": [{"set_weight": 25}, {"pause": True}]}})
    project = Project(waiting)
    release.start(project, 2)
    held = commands.wait(NAME, storage=better.storage, timeout=240)
    assert (held.phase, held.weight) == ("Paused", 25)
    with pytest.raises(RolloutRefused, match="v2"):
        release.start(project, 2)
    commands.abort(NAME, storage=better.storage, reason="not wanted")
    ended = commands.wait(NAME, storage=better.storage, timeout=240)
    assert (ended.phase, ended.weight) == ("Degraded", 0)
    assert "not wanted" in ended.message
    told = release.ask(release.service_url(better))
    assert told is not None
    assert told["weights"] == {"1": 100}
    assert clients.failures == 0


def test_running_the_taken_back_version_again_is_refused(live: tuple[Config, Clients]) -> None:
    better, _ = live
    with pytest.raises(RolloutRefused, match="taken back"):
        flow.run(better)


def test_after_a_restart_of_everything_the_rollout_goes_on_where_it_was(live: tuple[Config, Clients]) -> None:
    better, _ = live
    waiting = config.with_values(better, {"rollout": {"steps": [{"set_weight": 25}, {"pause": True}]}})
    release.start(Project(waiting), 2)
    assert commands.wait(NAME, storage=better.storage, timeout=240).weight == 25
    assert cluster.stop(better.storage)
    came_back = release.release(Project(waiting), 2, insist=True)
    told = release.ask(release.service_url(better))
    assert told is not None
    assert (told["stable"], told["weights"]) == (1, {"1": 75, "2": 25})
    assert (came_back.phase, came_back.ok) == ("Paused", True)
    commands.promote(NAME, storage=better.storage)
    assert commands.wait(NAME, storage=better.storage, timeout=240).phase == "Healthy"
    told = release.ask(release.service_url(better))
    assert told is not None
    assert told["weights"] == {"2": 100}


def test_the_same_version_again_is_nothing_to_do(live: tuple[Config, Clients]) -> None:
    better, _ = live
    ended = release.release(Project(better), 2)
    assert (ended.phase, ended.version, ended.ok) == ("Healthy", 2, True)
