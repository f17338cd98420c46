"""What an autoscaler may add is read from the settings that it works by: a launcher's file, or a RayCluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rayline.capacity import Node, NodeKind
from rayline.capacity.autoscaler import of_ray_cluster, scaling_of, settings_on_head
from rayline.processes import Process

LAUNCHER = {
    "max_workers": 3,
    "head_node_type": "head",
    "auth": {"ssh_private_key": "/root/secret.pem"},
    "docker": {"run_options": ["--env PASSWORD=secret"]},
    "available_node_types": {
        "head": {"resources": {"CPU": 4}, "node_config": {"secret": 1}},
        "cpu": {"resources": {"CPU": 8}, "max_workers": 10, "node_config": {"KeyName": "secret"}},
        "gpu": {"resources": {"CPU": 8, "GPU": 1}, "labels": {"tier": "gpu"}, "max_workers": 2},
    },
}


def node(kind: str, head: bool = False, **total: float) -> Node:
    return Node("n", kind, total, total, {}, head=head, id="n")


def container(cpus: int, gpus: int = 0) -> dict[str, Any]:
    limits: dict[str, Any] = {"cpu": cpus, "memory": "8Gi", **({"nvidia.com/gpu": gpus} if gpus else {})}
    return {"spec": {"containers": [{"name": "ray", "resources": {"limits": limits}}]}}


def ray_cluster(**spec: Any) -> dict[str, Any]:
    workers = [
        {"groupName": "cpu", "minReplicas": 0, "maxReplicas": 5, "rayStartParams": {}, "template": container(4)},
        {"groupName": "gpu", "minReplicas": 0, "maxReplicas": 2, "rayStartParams": {}, "template": container(8, 1)},
    ]
    head = {"rayStartParams": {"num-cpus": "0"}, "template": container(2)}
    return {
        "metadata": {"name": "c", "namespace": "n"},
        "spec": {"headGroupSpec": head, "workerGroupSpecs": workers, **spec},
    }


def on_head(monkeypatch: pytest.MonkeyPatch, *commands: str) -> None:
    processes = [Process(at, 1, "S", command) for at, command in enumerate(commands)]
    monkeypatch.setattr("rayline.processes.listed", lambda pid=None: processes)


def test_the_file_of_this_clusters_monitor_is_read_and_its_secrets_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bootstrap.yaml"
    file.write_text(yaml.safe_dump(LAUNCHER))
    command = "python -u ray/autoscaler/{}monitor.py --gcs-address={} --autoscaling-config={} --monitor-ip=1"
    on_head(monkeypatch, command.format("v2/", "10.0.0.1:6379", file), command.format("", "10.0.0.2:1", "/other"))
    settings = settings_on_head("10.0.0.1:6379")
    assert "secret" not in str(settings)
    found = scaling_of(settings, [node("", head=True, CPU=4.0)])
    assert found.kinds == (
        NodeKind("cpu", {"CPU": 8.0}, {}, 10),
        NodeKind("gpu", {"CPU": 8.0, "GPU": 1.0}, {"tier": "gpu"}, 2),
    )
    assert (found.more, found.why) == (3, "")
    assert settings_on_head("10.0.0.3:6379") == {}
    assert "cannot be read" in settings_on_head("10.0.0.2:1")["why"]


@pytest.mark.parametrize("named", [True, False], ids=["version 2", "version 1"])
def test_nodes_that_have_come_are_counted_off(named: bool) -> None:
    """Version 1 of the autoscaler does not say of what kind a node is: what it has decides."""
    nodes = [
        node("node_abc", head=True, CPU=4.0),
        node("gpu" if named else "node_def", CPU=8.0, GPU=1.0),
        node("cpu" if named else "node_123", CPU=8.0),
    ]
    labelled = [Node(each.name, each.kind, each.total, each.free, {"tier": "gpu"}, each.head) for each in nodes]
    found = scaling_of({"config": LAUNCHER}, labelled)
    assert [(kind.name, kind.more) for kind in found.kinds] == [("cpu", 9), ("gpu", 1)]
    assert found.more == 1


def test_a_ray_cluster_of_kubernetes_is_read_by_rays_own_rules() -> None:
    assert of_ray_cluster(ray_cluster()) == {}  # its autoscaler is off
    found = scaling_of(of_ray_cluster(ray_cluster(enableInTreeAutoscaling=True)), [node("headgroup", head=True)])
    assert [(kind.name, kind.more, kind.total["CPU"], kind.total.get("GPU")) for kind in found.kinds] == [
        ("cpu", 5, 4.0, None),
        ("gpu", 2, 8.0, 1.0),
    ]
    assert found.more == 7
    assert found.kinds[0].total["memory"] == 8 * 2**30


def test_what_cannot_be_read_is_no_proof_of_anything() -> None:
    assert scaling_of({"why": "refused"}, []).why == "refused"
    assert scaling_of({}, []).kinds == ()
