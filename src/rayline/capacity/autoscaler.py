"""What an autoscaler may add, from the settings that it works by.

Ray's own autoscalers tell nobody what they can reach: of 2.60 neither version reports its settings to the cluster's
state. They lie on the head alone: in the file that the monitor was started with, or, on Kubernetes, in the RayCluster
resource that its operator keeps. ``settings_on_head`` runs there and brings them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayline import processes
from rayline.capacity.values import Node, NodeKind, whole

OPTION = "--autoscaling-config="
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod finds its own namespace."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """The kinds of nodes that may come, how many of all together, and why that could not be read where it could not."""

    kinds: tuple[NodeKind, ...] = ()
    more: int = 0
    why: str = ""


def settings_on_head(gcs: str) -> dict[str, Any]:
    """Return ``{"config": ...}``, the settings of the autoscaler of this head; both empty where it has none.

    To be called on the head node. ``{"why": ...}`` says why they could not be read.

    Args:
        gcs: the address of the head's control store: another cluster's autoscaler may run on the same machine.
    """
    import yaml

    for command in (each.command for each in processes.living()):
        if "monitor.py" in command and f"--gcs-address={gcs}" in command and OPTION in command:
            file = os.path.expanduser(command.partition(OPTION)[2].split(" --")[0].strip())
            try:
                return {"config": _what_counts(yaml.safe_load(Path(file).read_text(encoding="utf-8")))}
            except (OSError, yaml.YAMLError) as error:
                return {"why": f"the autoscaler's settings in '{file}' cannot be read: {error}"}
    cluster = os.environ.get("RAY_CLUSTER_NAME")
    if cluster and os.environ.get("KUBERNETES_SERVICE_HOST") and NAMESPACE_FILE.exists():
        return _of_kubernetes(cluster, NAMESPACE_FILE.read_text(encoding="utf-8").strip())
    return {}


def _of_kubernetes(cluster: str, namespace: str) -> dict[str, Any]:
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    try:
        return of_ray_cluster(KubernetesHttpApiClient(namespace=namespace).get(f"rayclusters/{cluster}"))
    except Exception as error:  # noqa: BLE001 - whatever it is, the reach is unknown
        return {"why": f"RayCluster '{cluster}' cannot be read from this pod: {type(error).__name__}: {error}"}


def of_ray_cluster(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``settings_on_head`` does, of a RayCluster resource: nothing where its autoscaler is off."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    if not resource["spec"].get("enableInTreeAutoscaling"):
        return {}
    return {"config": _what_counts(_derive_autoscaling_config_from_ray_cr(dict(resource)))}


def _what_counts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the rest on the head: such a file holds keys and passwords too."""
    kinds = {
        name: {key: of[key] for key in ("resources", "labels", "max_workers") if key in of}
        for name, of in config.get("available_node_types", {}).items()
    }
    return {
        "available_node_types": kinds,
        **{key: config[key] for key in ("head_node_type", "max_workers") if key in config},
    }


def scaling_of(settings: Mapping[str, Any], nodes: Sequence[Node]) -> Scaling:
    """Return what may come beyond the nodes that live, from what ``settings_on_head`` gave."""
    config = settings.get("config")
    if not config:
        return Scaling(why=str(settings.get("why", "")))
    kinds = tuple(
        _kind(name, each, config, nodes)
        for name, each in config.get("available_node_types", {}).items()
        if name != config.get("head_node_type")
    )
    workers = sum(not node.head for node in nodes)
    return Scaling(kinds, max(0, int(config.get("max_workers", 2)) - workers))


def _kind(name: str, of: Mapping[str, Any], config: Mapping[str, Any], nodes: Sequence[Node]) -> NodeKind:
    total = {resource: float(amount) for resource, amount in (of.get("resources") or {}).items()}
    labels = {str(key): str(value) for key, value in (of.get("labels") or {}).items()}
    most = int(of.get("max_workers", config.get("max_workers", 2)))
    return NodeKind(name, total, labels, most, sum(is_of(node, name, total, labels) for node in nodes))


def is_of(node: Node, name: str, total: Mapping[str, float], labels: Mapping[str, str]) -> bool:
    """Tell whether a node is of a kind. Version 1 of the autoscaler does not say: then what they have decides."""
    if node.head:
        return False
    if node.kind and not node.kind.startswith("node_"):
        return node.kind == name
    counted = [resource for resource in total if "memory" not in resource]
    alike = all(
        whole(node.total.get(each, 0.0)) == whole(total[each]) for each in ("CPU", "GPU", *counted) if each in total
    )
    return alike and not node.total.get("GPU", 0.0) > total.get("GPU", 0.0) and labels.items() <= node.labels.items()
