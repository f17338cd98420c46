"""How much of the cluster is free for a training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from rayline.config import TrainConfig
from rayline.errors import ClusterError

PATIENCE_S = 15.0
"""How long to wait for what is just ending: Ray counts a process's CPUs as taken until it is gone."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much of one resource the cluster has, in all and free."""

    free: float
    total: float


def room_for(needed: float, resource: str = "CPU", patience: float = PATIENCE_S) -> Room:
    """Return the room of the connected cluster, as soon as ``needed`` of it is free, or when ``patience`` is over.

    There is no waiting for more than the cluster has in all.
    """
    import ray

    deadline = time.monotonic() + patience
    while True:
        total = float(ray.cluster_resources().get(resource, 0.0))
        free = float(ray.available_resources().get(resource, 0.0))
        if free >= needed or total < needed or time.monotonic() >= deadline:
            return Room(free, total)
        time.sleep(0.1)


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


def refuse_what_never_fits(train: TrainConfig, device: Literal["cpu", "cuda"], patience: float = PATIENCE_S) -> None:
    """Refuse before anything starts what the cluster cannot hold: Ray Train would wait for ever.

    Raises:
        ClusterError: fewer workers than ``train.num_workers`` (of a pair, its first) have room.
    """
    least = train.workers[0]
    resource = "GPU" if device == "cuda" else "CPU"
    room = room_for(least, resource, patience)
    if room.free < least:
        raise ClusterError(
            f"train.num_workers is {_asked(train)}, and each worker takes 1 {resource}, but this cluster has "
            f"{room.free:g} free of {room.total:g}. Lower train.num_workers, add nodes, or stop what holds the rest."
        )


def _asked(train: TrainConfig) -> str:
    least, most = train.workers
    return str(most) if least == most else f"[{least}, {most}]"
