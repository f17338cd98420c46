"""The door to what a running cluster has: nodes, what is free, and what its autoscaler may add."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rayline.capacity.autoscaler import Scaling, is_of, scaling_of, settings_on_head
from rayline.capacity.here import gpus_here
from rayline.capacity.values import Capacity, Node, NodeKind
from rayline.errors import ClusterError

ASK_SECONDS = 30.0
"""How long the head may take to tell of its autoscaler: a worker process has to start there."""

HEAD = "node:__internal_head__"


def of_cluster(seconds: float = ASK_SECONDS, *, scales: bool = True) -> Capacity:
    """Return what the connected cluster has and can reach.

    Args:
        scales: whether it may have an autoscaler; a head that Rayline started has none, and is not asked.
        seconds: for how long to wait for the head; after them the reach is unknown.

    Raises:
        ClusterError: Ray is not connected, or does not tell of its nodes.
    """
    import ray

    if not ray.is_initialized():
        raise ClusterError("Ray is not connected; call rayline.cluster.connect first.")
    gcs = ray.get_runtime_context().gcs_address
    nodes = _nodes(gcs)
    scaling, limits = (Scaling(), {}) if not scales else _reported(nodes) or (_asked(gcs, nodes, seconds), {})
    reach: Any = "unknown" if scaling.why else "scales" if scaling.kinds else "fixed"
    return Capacity(
        f"the cluster at {gcs}", nodes, scaling.kinds, scaling.more, limits, reach, scaling.why, gpus_here()
    )


def nodes_of_cluster() -> Capacity:
    """Return what the connected cluster has by now; whether more may come is not asked, which takes longer.

    Raises:
        ClusterError: Ray does not tell of its nodes.
    """
    import ray

    gcs = ray.get_runtime_context().gcs_address
    return Capacity(f"the cluster at {gcs}", _nodes(gcs), reach="unknown", why="it was not asked")


def elsewhere() -> dict[str, str]:
    """Return a label selector of all nodes but those that the connected cluster has now."""
    import ray

    here = ", ".join(each["NodeID"] for each in ray.nodes() if each["Alive"])
    return {"ray.io/node-id": f"!in({here})"}


def with_nodes(capacity: Capacity, now: Capacity) -> Capacity:
    """Return a capacity with the nodes that there are now, and what may come beside them."""
    before = sum(not node.head for node in capacity.nodes)
    kinds = tuple(
        replace(kind, running=sum(is_of(node, kind.name, kind.total, kind.labels) for node in now.nodes))
        for kind in capacity.kinds
    )
    more = max(0, capacity.more + before - sum(not node.head for node in now.nodes))
    return replace(capacity, nodes=now.nodes, kinds=kinds, more=more)


def _nodes(gcs: str) -> tuple[Node, ...]:
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    hosts = {each["NodeID"]: each["NodeManagerHostname"] for each in ray.nodes() if each["Alive"]}
    try:
        status = get_cluster_status(gcs)
    except Exception as error:
        raise ClusterError(f"Ray at {gcs} does not tell what its nodes have: {error}") from error
    found = []
    for each in [*status.active_nodes, *status.idle_nodes]:
        total, labels = each.total_resources(), dict(each.labels or {})
        kind = each.ray_node_type_name or labels.get("ray.io/node-group", "")
        found.append(
            Node(
                each.ip_address,
                kind,
                total,
                each.available_resources(),
                labels,
                HEAD in total,
                hosts.get(each.node_id, each.ip_address),
                str(each.node_id),
            )
        )
    return tuple(sorted(found, key=lambda node: (not node.head, node.name, node.id)))


def _reported(nodes: tuple[Node, ...]) -> tuple[Scaling, dict[str, float]] | None:
    """Return the settings that the cluster's state holds, where an autoscaler reports them there; Ray's own do not."""
    from ray._private.state import state

    config = state.get_cluster_config()
    if config is None or not config.node_group_configs:
        return None
    kinds = []
    for group in config.node_group_configs:
        most = group.max_count if group.max_count >= 0 else 1_000_000
        running = sum(node.kind == group.name and not node.head for node in nodes)
        kinds.append(NodeKind(group.name, dict(group.resources), {}, most, running))
    limits = {name: float(amount) for name, amount in config.max_resources.items()}
    return Scaling(tuple(kinds), sum(kind.more for kind in kinds)), limits


def _asked(gcs: str, nodes: tuple[Node, ...], seconds: float) -> Scaling:
    """Ask the head; it lies on no other node what its autoscaler works by."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    head = next((node for node in nodes if node.head), None)
    if head is None:
        return Scaling(why="the cluster tells of no head node")
    if head.id == ray.get_runtime_context().get_node_id():  # this process is on the head
        return scaling_of(settings_on_head(gcs), nodes)
    there = NodeAffinitySchedulingStrategy(head.id, soft=False)
    asked = ray.remote(settings_on_head).options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(gcs)
    try:
        return scaling_of(ray.get(asked, timeout=seconds), nodes)
    except ray.exceptions.RayError as error:
        ray.cancel(asked, force=True)
        lines = str(error).strip().splitlines()
        return Scaling(why=f"the head did not tell of its autoscaler: {lines[-1] if lines else type(error).__name__}")
