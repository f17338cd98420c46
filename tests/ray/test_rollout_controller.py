"""The real, detached controller on doubles that live in a file: killed in the middle it comes back and finishes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray

import rollout_doubles
from rayline.cluster import NAMESPACE
from rayline.config import RolloutConfig, parse
from rayline.errors import ConfigError, NotFoundError, RolloutRefused
from rayline.rollout import commands
from rayline.rollout.controller import actor_name
from rayline.rollout.ports import Ports
from rayline.serving.records.observation import ArmStats
from rayline.serving.traffic.plan import TrafficPlan
from rollout_doubles import FileCell, RecordsDouble, ServiceDouble, bad, good, live_version

pytestmark = pytest.mark.usefixtures("ray_cluster")

DEADLINE_S = 60.0
METRICS = [
    {"measure": "error_rate", "max": 0.05, "minimum_samples": 20},
    {"measure": "accuracy", "max_decrease": 0.05, "minimum_samples": 20},
]


class Site:
    """A service and a store in a file, and the verbs on them."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.storage = folder
        self.cell = FileCell(folder / "world.json")
        path = folder / "world.json"
        wrong, right = bad, good  # names of its own: what refers to a module cannot travel

        def traffic(number: int, weight: int) -> ArmStats:
            return wrong(weight * 10) if number == 3 else right(weight * 10)

        self.ports = Ports(
            service=lambda service, storage: ServiceDouble(FileCell(path), traffic=traffic),
            records=lambda uri, storage: RecordsDouble(FileCell(path)),
            task=lambda version: "binary",
        )

    def start(self, number: int, rollout: RolloutConfig) -> Any:
        return commands.start(
            self.name, storage=self.storage, rollout=rollout, version=live_version(number), ports=self.ports
        )

    def verb(self, verb: Callable[..., Any], **details: Any) -> Any:
        return verb(self.name, storage=self.storage, ports=self.ports, **details)

    def ended(self) -> Any:
        return commands.wait(self.name, storage=self.storage, timeout=DEADLINE_S)

    @property
    def state(self) -> Any:
        return commands.status(self.name, storage=self.storage)

    @property
    def weights(self) -> dict[int, int]:
        plan = TrafficPlan.from_json(self.cell.read()["plan"])
        return {number: weight for number, weight in plan.weights.items() if weight}

    def process(self) -> int | None:
        try:
            actor = ray.get_actor(actor_name(self.name), namespace=NAMESPACE)
            return int(ray.get(actor.__ray_call__.remote(lambda self: os.getpid()), timeout=10))
        except (ValueError, ray.exceptions.RayError):
            return None

    def kill(self) -> int:
        process = until(self.process, "the controller's process")
        os.kill(process, signal.SIGKILL)
        return process


@pytest.fixture(scope="module", autouse=True)
def doubles_travel() -> Iterator[None]:
    """Send the doubles to Ray's workers by value: they cannot import this folder."""
    ray.cloudpickle.register_pickle_by_value(rollout_doubles)
    yield
    ray.cloudpickle.unregister_pickle_by_value(rollout_doubles)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, "bikes")
    yield site
    with suppress(ValueError):
        ray.kill(ray.get_actor(actor_name(site.name), namespace=NAMESPACE), no_restart=True)
    until(lambda: not any(each["name"] == actor_name(site.name) for each in _named()), "the controller's end")


def _named() -> list[dict[str, str]]:
    return ray.util.list_named_actors(all_namespaces=True)


def until(read: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (value := read()):
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:.0f} s for {what}"
        time.sleep(0.02)
    return value


def rollout(*steps: dict[str, Any], interval: float = 0.2) -> RolloutConfig:
    section: dict[str, Any] = {"analysis": {"interval": interval, "count": 3, "metrics": METRICS}}
    if steps:
        section["steps"] = list(steps)
    return parse({"name": "x", "data": {"source": "x"}, "features": {"target": "x"}, "rollout": section}).rollout


def test_killed_in_the_middle_it_comes_back_and_finishes(site: Site) -> None:
    site.start(2, rollout(interval=0.5))
    killed = []
    for weight in (10, 50):
        until(lambda weight=weight: site.state.weight == weight and site.state.analysis, f"the analysis at {weight} %")
        killed.append(site.kill())
    ended = site.ended()

    assert (ended.phase, site.weights) == ("Healthy", {2: 100})
    assert [each.weight for each in ended.decisions] == sorted(each.weight for each in ended.decisions)
    facts = site.cell.read()
    workers = {call[2] for call in facts["calls"]}
    assert len(workers) == 3, "each of the three processes did a part"
    assert set(killed) < workers
    assert facts["aliases"] == {"champion": 2}
    (run,) = [run for run in facts["runs"].values() if run["points"]]
    assert run["status"] == "FINISHED"


def test_a_bad_canary_is_taken_back_and_every_verb_answers_meanwhile(site: Site) -> None:
    site.start(3, rollout({"set_weight": 10}, {"pause": True}, {"analysis": True}))
    until(lambda: site.state.waiting, "the pause")
    assert site.weights == {1: 90, 3: 10}
    with pytest.raises(RolloutRefused, match=r"rollout of 'bikes' to v3 is under way \(Paused, 10 %, step 2 of 4\)"):
        site.start(2, rollout())
    with pytest.raises(RolloutRefused, match="cannot undo"):
        site.verb(commands.undo)
    with pytest.raises(RolloutRefused, match="is paused already"):
        site.verb(commands.pause)
    assert site.verb(commands.promote).phase == "Progressing"
    ended = site.ended()
    assert (ended.phase, site.weights) == ("Degraded", {1: 100})
    assert ended.message.startswith("accuracy of canary v3 0.1 < stable v1 1 - 0.05 (n = ")
    assert site.cell.read()["version_tags"]["3"]["rayline.rollout.reason"] == ended.message


def test_an_abort_outlives_the_process_that_heard_it(site: Site) -> None:
    site.start(2, rollout({"set_weight": 40}, {"pause": True}))
    until(lambda: site.state.waiting, "the pause")
    site.kill()
    assert site.verb(commands.abort, reason="not wanted").phase == "Degraded"
    site.kill()
    ended = site.ended()
    assert (ended.phase, ended.message, site.weights) == ("Degraded", "not wanted", {1: 100})


def test_undo_returns_all_traffic_at_once(site: Site) -> None:
    site.start(2, rollout({"set_weight": 100}))
    assert site.ended().phase == "Healthy"
    site.verb(commands.undo)
    ended = site.ended()
    assert (ended.kind, ended.phase, site.weights) == ("undo", "Healthy", {1: 100})
    assert site.cell.read()["aliases"] == {"champion": 1}


def test_what_cannot_work_is_refused_before_a_controller_starts(tmp_path: Path) -> None:
    site = Site(tmp_path, "nothing")
    with pytest.raises(ConfigError, match="Use 'mean_absolute_error'"):
        commands.start(
            site.name,
            storage=site.storage,
            rollout=rollout(),
            version=live_version(2),
            ports=Ports(site.ports.service, site.ports.records, lambda version: "regression"),
        )
    with pytest.raises(NotFoundError, match="service 'nothing' was never deployed here"):
        site.verb(commands.abort)
    assert not any(each["name"] == actor_name(site.name) for each in _named())
