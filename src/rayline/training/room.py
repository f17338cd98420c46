"""How much of the cluster is free for a training."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal

from rayline.capacity.reading import nodes_of_cluster, of_cluster
from rayline.config import ClusterConfig, TrainConfig
from rayline.errors import ClusterError
from rayline.training.neighbours import of_services
from rayline.training.sharing import Floor, Needs, share

PATIENCE_S = 15.0
"""How long to wait for what is just ending: Ray counts a process's CPUs as taken until it is gone."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much of one resource the cluster has, in all and free."""

    free: float
    total: float


@dataclass(frozen=True, slots=True)
class Claim:
    """What a training may take of the cluster: where, and what it leaves to services.

    Attributes:
        before: the CPUs that services had when the training began.
    """

    cluster: ClusterConfig
    before: float

    @classmethod
    def now(cls, cluster: ClusterConfig) -> Claim:
        """Return the claim of a training that begins."""
        return cls(cluster, of_services().held)

    @property
    def floor(self) -> Floor:
        """What is left to services."""
        return Floor(self.cluster.reserve_cpus, self.before)

    def needs(self, resource: str) -> Needs:
        """Return what one worker needs: a CPU, and of ``GPU`` one of those too."""
        return Needs({"CPU": 1.0, resource: 1.0}, self.cluster.train_on, self.cluster.serve_on)

    def kept(self) -> float:
        """Return the CPUs that are to stay free just now."""
        return self.floor.kept(of_services())


def room_for(needed: float, resource: str = "CPU", patience: float = PATIENCE_S, claim: Claim | None = None) -> Room:
    """Return the room of the connected cluster, as soon as ``needed`` of it is free, or when ``patience`` is over.

    There is no waiting for more than the cluster has in all. With a ``claim`` only what may be taken counts, in workers
    of one ``resource`` each.
    """
    deadline = time.monotonic() + patience
    while True:
        room = _seen(resource) if claim is None else _claimed(resource, claim)
        if room.free >= needed or room.total < needed or time.monotonic() >= deadline:
            return room
        time.sleep(0.1)


def _seen(resource: str) -> Room:
    import ray

    total = float(ray.cluster_resources().get(resource, 0.0))
    return Room(float(ray.available_resources().get(resource, 0.0)), total)


def _claimed(resource: str, claim: Claim) -> Room:
    capacity = replace(nodes_of_cluster(), reach="fixed")
    emptied = replace(capacity, nodes=tuple(replace(node, free=node.total) for node in capacity.nodes))
    neighbours, needs = of_services(), claim.needs(resource)
    free, total = (share(each, needs, 0, neighbours, claim.floor).now for each in (capacity, emptied))
    return Room(free, total)


def device_for_group(train: TrainConfig) -> Literal["cpu", "cuda"]:
    """Return what a group of workers computes on: ``auto`` takes GPUs where the cluster has one for each worker.

    The driver's own GPUs say nothing about the nodes of its workers.

    Raises:
        ClusterError: ``train.use_gpu`` is true and the cluster has no GPU.
    """
    import ray

    if train.use_gpu is False:
        return "cpu"
    gpus = float(ray.cluster_resources().get("GPU", 0.0))
    if gpus >= train.workers[0]:
        return "cuda"
    if train.use_gpu is True:
        raise ClusterError(
            f"train.use_gpu is true and {train.workers[0]} workers take 1 GPU each, but this cluster has {gpus:g}. "
            "Set train.use_gpu to auto, lower train.num_workers, or add GPU nodes."
        )
    return "cpu"


def refuse_what_never_fits(
    train: TrainConfig,
    device: Literal["cpu", "cuda"],
    patience: float = PATIENCE_S,
    claim: Claim | None = None,
) -> bool:
    """Refuse before anything starts what the cluster cannot hold: Ray Train would wait for ever.

    Returns whether nodes must come first.

    Raises:
        ClusterError: fewer workers than ``train.num_workers`` (of a pair, its first) have room.
    """
    least = train.workers[0]
    resource = "GPU" if device == "cuda" else "CPU"
    room = room_for(least, resource, patience, claim)
    if room.free >= least:
        return False
    if claim is not None:
        reached = share(of_cluster(), claim.needs(resource), 0, of_services(), claim.floor)
        if reached.grows and reached.most >= least:
            return True
    kept = claim.kept() if claim is not None else 0.0
    left = f", and leaves {kept:g} CPUs to services (cluster.reserve_cpus)" if kept else ""
    raise ClusterError(
        f"train.num_workers is {_asked(train)}, and each worker takes 1 {resource}, but this cluster has "
        f"{room.free:g} free of {room.total:g}{left}. Lower train.num_workers, add nodes, or stop what holds the rest."
    )


def _asked(train: TrainConfig) -> str:
    least, most = train.workers
    return str(most) if least == most else f"[{least}, {most}]"
