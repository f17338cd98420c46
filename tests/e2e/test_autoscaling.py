"""On a cluster that scales by itself a Study brings nodes and loses none of its trials; a service grows and shrinks."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaling_cluster import AutoscalingCluster, NodesOverTime, NodeType, autoscaling_cluster, wait_until
from rayline import config, flow
from rayline.config import ServiceConfig
from rayline.config.service import AutoscalingConfig
from rayline.events import Event, Notice, TrialEnded, TrialEpoch
from rayline.project import Project
from rayline.serving.http.ingress import ingress_environment
from rayline.serving.service import deploy
from rayline.serving.traffic.plan import LiveVersion
from registry_examples import make_bundle, real_table
from service_world import FAULTY, Load, World

PORT = 22390
A_NODES_TRIALS = 2
TESTS = str(Path(__file__).parents[1])
ROLES = {
    "train": NodeType(cpus=A_NODES_TRIALS, most=2, labels={"role": "train"}),
    "serve": NodeType(cpus=2, most=2, labels={"role": "serve"}),
}
SCALING = AutoscalingConfig(
    min_replicas=1, max_replicas=3, target_ongoing_requests=2.0, upscale_delay=1.0, downscale_delay=4.0
)


@pytest.fixture(scope="module")
def head(environment: None) -> Iterator[AutoscalingCluster]:
    """Start a head without CPUs that may start two nodes for trainings and two for services."""
    with tempfile.TemporaryDirectory(prefix="rl-scaling-") as folder:
        os.environ.update(ingress_environment("127.0.0.1", PORT, folder, "haproxy"))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(FAULTY), TESTS, os.environ.get("PYTHONPATH", "")])
        with autoscaling_cluster(Path(folder) / "c", ROLES, idle_seconds=5) as started:
            yield started


def project_file(folder: Path) -> Path:
    file, held = folder / "rayline.yaml", folder / "held"
    held.touch()
    raw = {
        "name": "cancer",
        "data": {"source": "sklearn:breast_cancer"},
        "features": {"target": "target"},
        "model": {"builder": "slow_model:build", "options": {"held_by": str(held)}},
        "train": {"epochs": 20, "batch_size": 16, "patience": 0, "use_gpu": False},
        "tune": {"trials": 6, "scheduler": "none", "space": {"train.learning_rate": {"low": 0.001, "high": 0.1}}},
        "cluster": {"train_on": {"role": "train"}},
    }
    file.write_text(json.dumps(raw))
    return file


def test_a_study_brings_nodes_that_go_again_and_a_lost_node_takes_no_trial(
    head: AutoscalingCluster, tmp_path: Path
) -> None:
    settings = config.load(project_file(tmp_path))
    told: list[str] = []
    lost: list[str] = []
    running: set[int] = set()

    def heard(event: Event) -> None:
        if isinstance(event, Notice):
            told.append(event.text)
        if isinstance(event, TrialEnded):
            seen.mark(f"trial {event.number + 1} of {event.of} {event.status}")
            running.discard(event.number)
        if isinstance(event, TrialEpoch) and not lost and event.epoch > 2:
            running.add(event.trial)
        if len(running) > A_NODES_TRIALS and not lost:  # a trial of each node has come to its third epoch
            lost.append(head.workers()[-1].id)
            seen.mark("a node is killed")
            head.kill_node(lost[0])
            (tmp_path / "held").unlink()

    with NodesOverTime(head) as seen:
        ended = flow.run(settings, until="tune", listener=heard)
        seen.mark("the Study is done")
        wait_until(lambda: not head.workers(), "idle nodes to go")
    print(f"\nStudy of 6 trials, nodes over time:\n{seen.text()}")
    assert lost
    assert seen.kinds == {"train"}
    assert seen.counts[0] == 0
    assert seen.most == 2
    assert seen.counts[-1] == 0
    assert any(" trials running: waiting for " in text for text in told), told
    assert any(text.endswith("it goes on from its last checkpoint") for text in told), told
    assert ended.result("tune")["trials"] == 6
    store = Project(settings).store
    runs = [store.run(each) for each in store.children(ended.result("tune")["study_run_id"])]
    assert sorted(run.tags["rayline.trial"] for run in runs) == [str(number) for number in range(1, 7)]
    assert {run.status for run in runs} == {"FINISHED"}


def test_a_service_grows_over_nodes_under_load_and_comes_back(head: AutoscalingCluster, tmp_path: Path) -> None:
    from ray import serve

    bundle = make_bundle(tmp_path / "bundles" / "1", real_table("binary"), seed=1)
    settings = ServiceConfig(port=PORT, num_cpus=1.0, autoscaling=SCALING)
    live = LiveVersion(1, str(bundle.path), bundle.digest)
    replicas: list[int] = []

    def count() -> int:
        found = len(world.service.status()["replicas"])
        if not replicas or replicas[-1] != found:
            replicas.append(found)
            seen.mark(f"{found} replica{'s' * (found != 1)}")
        return found

    with NodesOverTime(head) as seen:
        service = deploy("churn", settings, str(tmp_path / "storage"), live, serve_on={"role": "serve"})
        world = World(service, settings, tmp_path / "bundles", {1: bundle})
        try:
            assert count() == 1
            world.fault(1, "slow 0.2")  # eight clients are eight requests under way
            with Load(world, clients=8) as load:
                wait_until(lambda: count() == 3, "three replicas")
                assert len(head.workers()) == 2
                load.more(50)
            world.fault(1, "")
            wait_until(lambda: count() == 1, "the replicas to go")
            wait_until(lambda: len(head.workers()) == 1, "their node to go")
            assert world.predict().status_code == 200
        finally:
            serve.shutdown()
        wait_until(lambda: not head.workers(), "the last node to go")
    print(f"\nService under load, nodes over time:\n{seen.text()}\n{len(load.answers)} answers")
    assert seen.kinds == {"serve"}
    assert load.errors == []
    assert load.statuses(1).keys() == {200}
    assert replicas == sorted(replicas[: replicas.index(3) + 1]) + sorted(replicas[replicas.index(3) + 1 :])[::-1]
    assert seen.counts == [0, 1, 2, 1, 0], "nodes came and went more than once"
