"""How much of the cluster is free for a training."""

from __future__ import annotations

import time
from dataclasses import dataclass

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
