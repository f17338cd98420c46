"""Who may connect to a replica: the nodes of its own cluster, where the ingress runs, and nobody else."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator

LOOPBACK = frozenset({"127.0.0.1", "::1"})
REFRESH_SECONDS = 5.0


class Peers(Collection[str]):
    """The addresses of the cluster's nodes, asked for again when an unknown one connects, and at most so often."""

    def __init__(self) -> None:
        self._known: frozenset[str] = LOOPBACK
        self._asked = float("-inf")

    def __contains__(self, address: object) -> bool:
        if address in self._known:
            return True
        now = time.monotonic()
        if now - self._asked < REFRESH_SECONDS:
            return False
        self._asked = now
        self._known = LOOPBACK | _node_addresses()
        return address in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def _node_addresses() -> frozenset[str]:
    import ray

    return frozenset(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"])
