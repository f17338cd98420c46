"""What a real cluster has, and what its real autoscaler may add, decides before anything starts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from autoscaling_cluster import AutoscalingCluster, NodeType, autoscaling_cluster
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


def test_the_doctor_asks_the_cluster_and_tells_of_a_token_that_it_does_not_take(
    growing: AutoscalingCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project(tmp_path)
    for name, value in growing.environment.items():
        monkeypatch.setenv(name, value)
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    wrong.chmod(0o644)
    code, good = doctor(file, capsys)
    assert (code, good["cluster"]["state"], good["tokens"]["state"]) == (0, "ok", "ok")
    assert f"{growing.address} answers: " in good["cluster"]["seen"]
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(wrong))
    code, bad = doctor(file, capsys)
    assert code == 3
    assert f"'{wrong}' has mode 0644: others may read it" in bad["tokens"]["seen"]
    assert bad["tokens"]["way_out"] == f"chmod 600 {wrong}"
    assert "does not take the token" in bad["cluster"]["seen"]
    assert {name for name, each in bad.items() if each["state"] == "failed"} == {"tokens", "cluster"}


def doctor(file: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, str]]]:
    code = run(["doctor", file, "--json"])
    return code, {each["check"]: each["findings"][0] for each in json.loads(capsys.readouterr().out)["checks"]}
