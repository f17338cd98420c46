"""A service under load and a rollout, on a head and two worker nodes: one node goes, then the head, then all of it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from load_client import Load, ask
from node_cluster import NodeCluster, listening, marked, node_cluster, until
from rayline import cluster, config, flow, release
from rayline.config import Config
from rayline.project import Project
from rayline.registry.bundle import Bundle
from rayline.rollout import commands
from rayline.rollout.controller import Controller, actor_name
from rayline.rollout.ports import LIVE
from rayline.serving.http.ingress import ingress_environment
from rayline.serving.service import Service

NAME = "wine"
PORT, HEAD_PORT = 22450, 22410
AWAY = {"away": 100.0}
RAYLINE = str(Path(sys.executable).parent / "rayline")
PROJECT = f"""
name: {NAME}
data: {{source: "sklearn:wine"}}
features: {{target: target}}
model: {{hidden: [8]}}
train: {{epochs: 10, batch_size: 16, learning_rate: 0.01}}
service: {{port: {PORT}, replicas: 2, num_cpus: 0.4, drain: 0}}
rollout: {{steps: [{{set_weight: 10}}, {{pause: true}}]}}
cluster: {{gcs_storage: rocksdb}}
"""


@dataclass
class Live:
    """The project, its nodes and what asks its service."""

    config: Config
    nodes: NodeCluster
    load: Load
    ports: range
    """Those that its replicas may listen on."""

    @property
    def service(self) -> Service:
        return Service.connect(NAME, self.config.storage)

    def whole(self) -> bool:
        """Tell whether two replicas follow the plan, and are answered by."""
        told = self.service.status()
        followed = [each for each in told["replicas"].values() if each["generation"] == told["generation"]]
        return told["application"] == "RUNNING" and len(followed) == 2 and self.load.answered()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service with a replica on each of two worker nodes, under load, and the controller of its rollouts on one."""
    import ray

    folder = tmp_path_factory.mktemp("wine")
    (folder / "rayline.yaml").write_text(PROJECT)
    first = config.load(folder / "rayline.yaml")
    storage = Path(first.storage)
    ingress = ingress_environment(first.service.host, PORT, str(storage))
    with node_cluster(storage, HEAD_PORT, ingress, "rocksdb") as nodes:
        project = Project(first)
        project.connect()
        nodes.add("one", 2, AWAY)
        flow.run(first, until="register")
        # A controller lives on the head's node; one that is somewhere else all the same must come back too.
        elsewhere: dict[str, Any] = {"lifetime": "detached", "num_cpus": 0, "resources": {"away": 0.001}}
        elsewhere |= {"name": actor_name(NAME), "namespace": cluster.NAMESPACE}
        ray.remote(Controller).options(**elsewhere, max_restarts=-1, max_concurrency=8).remote(NAME, str(storage), LIVE)
        nodes.add("two", 2, AWAY)
        better = config.with_values(first, {"model": {"hidden": [16]}})
        flow.run(better, until="register")
        assert release.release(project, 1).ok
        example = Bundle.load(release.live_version(project, 1).path).example
        with Load(folder, PORT, f"/{NAME}/predict", dict(example[0]), rate=50) as load:
            ports = [int(ingress[f"RAY_SERVE_DIRECT_INGRESS_{end}_HTTP_PORT"]) for end in ("MIN", "MAX")]
            found = Live(better, nodes, load, range(*ports))
            until(found.whole, "the service")
            yield found
        cluster.disconnect()


def _at_ten_percent(live: Live) -> Any:
    state = commands.status(NAME, storage=live.config.storage)
    return state if state.weight == 10 and state.waiting else None


def _ports(live: Live) -> dict[int, str]:
    """Return the replicas' own ports, with the node that each is on."""
    found = {}
    for name in live.nodes.nodes:
        for pid in live.nodes.holds(name, "ray::ServeReplica"):
            found.update({port: name for port in listening(pid) if port in live.ports})
    return found


def test_a_node_with_a_replica_and_the_controller_goes(live: Live) -> None:
    release.start(Project(live.config), 2)
    before = until(lambda: _at_ten_percent(live), "10 %")
    generation = live.service.plan().generation
    assert set(_ports(live).values()) == {"one", "two"}
    assert live.nodes.holds("one", "ray::Controller")
    since = max(each.at for each in live.load.asked())
    live.nodes.kill("one")
    until(lambda: not live.nodes.known("one"), "the cluster to notice")
    until(live.whole, "two replicas on the node that is left")
    until(lambda: live.nodes.holds("two", "ray::Controller"), "the controller on the node that is left")
    assert [each for each in live.load.asked(since) if each.retry] == []
    assert set(_ports(live).values()) == {"two"}
    plan = live.service.plan()
    assert (plan.generation, dict(plan.weights)) == (generation, {1: 90, 2: 10})
    assert commands.status(NAME, storage=live.config.storage).decisions == before.decisions


def test_the_head_goes_and_the_next_command_brings_it_back_with_all_that_it_knew(live: Live) -> None:
    before = commands.status(NAME, storage=live.config.storage)
    plan = live.service.plan()
    ports = _ports(live)
    assert ports
    killed = live.nodes.head
    live.nodes.kill_head()
    body = live.load._body.read_bytes()
    for port in ports:  # replicas on worker nodes go on answering, to whoever reaches them
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            assert ask(connection, f"/{NAME}/predict", body) == ""
    cluster.disconnect()
    Project(live.config).connect()
    head = live.nodes.head
    assert (head.pid != killed.pid, head.address) == (True, killed.address)
    until(live.whole, "the service")
    assert live.service.plan() == plan
    assert commands.status(NAME, storage=live.config.storage).decisions == before.decisions
    assert ports.items() <= _ports(live).items()  # those that lived on were not started anew
    commands.promote(NAME, storage=live.config.storage)
    ended = commands.wait(NAME, storage=live.config.storage, timeout=240)
    assert (ended.phase, ended.weight, ended.id) == ("Healthy", 100, before.id)
    assert dict(live.service.plan().weights) == {2: 100}


def test_the_history_outlives_the_cluster(live: Live) -> None:
    storage = Path(live.config.storage)
    last = max(each.at for each in live.load.asked() if not each.first)
    live.nodes.close()
    assert cluster.last(storage) is None
    env = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "RAY_AUTH_MODE")}
    env |= {"RAYLINE_TEST_MARK": str(storage), "COLUMNS": "200"}

    def said(*verb: str) -> str:
        command = [RAYLINE, *verb, "--config", str(storage.parent / "rayline.yaml")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    told = json.loads(said("status", "--json"))
    assert told["cluster"] is None
    assert (told["service"]["running"], told["service"]["weights"]) == (False, {"2": 100})
    assert told["service"]["last_seen"] == pytest.approx(last, abs=60)
    assert (told["rollout"]["phase"], told["rollout"]["canary_version"]["number"]) == ("Healthy", 2)
    assert [(each["number"], each["aliases"]) for each in told["versions"]] == [(2, ["champion"]), (1, [])]
    assert [each["step"] for each in told["steps"]][-1] == "register"
    for verb in (("status",), ("rollout", "status", NAME), ("rollout", "history", NAME)):
        assert "not running; last seen" in said(*verb)
    assert "Healthy" in said("lineage", f"{NAME}@2")
    assert NAME in said("card", f"{NAME}@2")
    assert marked("RAYLINE_TEST_MARK", str(storage)) == []
    assert cluster.last(storage) is None
