"""What a real cluster has, and what its real autoscaler may add, decides before anything starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from tests.autoscaling_cluster import AutoscalingCluster, NodeType, autoscaling_cluster, wait_until

from rayline.capacity.reading import of_cluster
from rayline.cli.app import run

TYPES = {"cpu-worker": NodeType(cpus=2, most=3, labels={"tier": "batch"}), "gpu-worker": NodeType(2, 1, gpus=1)}


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AutoscalingCluster]:
    folder = Path(f"/tmp/rl-pf-{os.getpid()}")
    with autoscaling_cluster(
        folder, TYPES, head_cpus=1, port=22_220, environment={"RAY_raylet_start_wait_time_s": "120"}
    ) as started:
        os.environ["RAY_ADDRESS"] = started.address
        yield started
    shutil.rmtree(folder, ignore_errors=True)


def project(folder: Path, **sections: object) -> str:
    (folder / "table.csv").write_text("size,label\n" + "1,a\n2,b\n" * 50)
    values = {"name": "table", "data": {"source": "table.csv"}, "features": {"target": "label"}}
    file = folder / "rayline.yaml"
    file.write_text(json.dumps({**values, "service": {"port": 22_221}, **sections}))
    return str(file)


def test_what_there_is_and_what_may_come_is_read_from_the_cluster(growing: AutoscalingCluster) -> None:
    found = of_cluster()
    (head,) = found.nodes
    assert (head.head, head.total["CPU"], head.labels["ray.io/node-group"]) == (True, 1.0, "head")
    assert found.reach == "scales"
    assert {kind.name: (kind.more, kind.total["CPU"], kind.total.get("GPU", 0.0)) for kind in found.kinds} == {
        "cpu-worker": (3, 2.0, 0.0),
        "gpu-worker": (1, 2.0, 1.0),
    }
    assert found.kinds[0].labels["tier"] == "batch"
    assert (found.can_reach("CPU"), found.can_reach("GPU")) == (9.0, 1.0)


def test_a_run_that_needs_one_gpu_more_is_refused_before_anything_starts(
    growing: AutoscalingCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project(tmp_path, train={"num_workers": 2, "use_gpu": True})
    assert run(["run", file]) == 3
    said = capsys.readouterr().err
    assert "nothing was started. train: needs 1 GPU more than this cluster can reach" in said
    assert "its nodes have 0 GPUs, and its autoscaler adds at most 1 GPU" in said
    left = [each for each in tmp_path.rglob("*") if each.is_file() and "ledger" in each.parts]
    assert not [each for each in left if each.suffix == ".json"]
    assert not (tmp_path / ".rayline" / "features").exists()
    assert [node.kind for node in growing.nodes()] == ["head"]  # and none was asked to come


def test_a_plan_tells_of_nodes_that_must_come_and_starts_none(
    growing: AutoscalingCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project(tmp_path, train={"num_workers": 4, "use_gpu": False}, cluster={"train_on": {"tier": "batch"}})
    assert run(["plan", file, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    needs = {step["step"]: step["needs"] for step in told["steps"]}
    assert needs["features"][0]["outcome"] == "fits"
    assert needs["train"][0]["new_nodes"] == {"cpu-worker": 2}
    assert "2 nodes more of type cpu-worker (the autoscaler may add 3)" in needs["train"][0]["words"]
    assert run(["plan", file]) == 0
    page = capsys.readouterr().out
    assert "up to 3 more cpu-worker" in page
    assert len(growing.nodes()) == 1


def test_a_node_that_has_come_is_counted_and_one_fewer_may_come(growing: AutoscalingCluster) -> None:
    ray.get(ray.remote(lambda: None).options(num_cpus=2).remote(), timeout=120)
    found = of_cluster()
    assert len(found.nodes) == 2
    assert {kind.name: kind.more for kind in found.kinds} == {"cpu-worker": 2, "gpu-worker": 1}
    assert found.can_reach("CPU") == 9.0


@contextmanager
def node_elsewhere(cluster: AutoscalingCluster, blind: Path) -> Iterator[None]:
    """Start a node with a name and mounts of its own: another machine, as far as files go, that lacks one folder."""
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={cluster.address}"]
    start += ["--num-cpus=1", "--object-store-memory=100000000", '--resources={"elsewhere": 1}']
    script = f'hostname elsewhere && mount -t tmpfs none "{blind}" && exec "$@"'
    environment = {**os.environ, **cluster.environment}
    for name in ("RAY_OVERRIDE_NODE_ID_FOR_TESTING", "RAY_CLOUD_INSTANCE_ID"):
        environment.pop(name, None)
    node = subprocess.Popen(["unshare", "-m", "-u", "sh", "-c", script, "sh", *start], env=environment)
    try:
        wait_until(lambda: "elsewhere" in ray.cluster_resources(), "the node that is elsewhere")
        yield
    finally:
        node.terminate()
        node.wait(60)


def can_unshare() -> bool:
    program = shutil.which("unshare")
    if program is None:
        return False
    return subprocess.run([program, "-m", "-u", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="a node with mounts of its own needs rights that this user has not")
def test_a_storage_folder_that_another_machine_does_not_see_is_refused(
    growing: AutoscalingCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = tmp_path / "own"
    storage.mkdir()
    file = project(tmp_path, storage=str(storage))
    with node_elsewhere(growing, storage):
        assert run(["run", file]) == 3
        said = capsys.readouterr().err
        assert f"storage '{storage}' is a folder of this machine" in said
        assert "Set 'storage' to an object store" in said
        assert not (storage / "features").exists()
        from rayline.capacity.shared_folder import seen_elsewhere

        shared = seen_elsewhere(tmp_path, of_cluster())
    assert (shared.asked, shared.blind, shared.silent) == (1, (), ())
    assert not list(tmp_path.glob(".seen-*"))
