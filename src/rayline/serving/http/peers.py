"""Who may connect to a replica: the nodes of its own cluster, where the ingress runs, and nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator

LOOPBACK = frozenset({"127.0.0.1", "::1"})
REFRESH_SECONDS = 1.0
ANSWER_SECONDS = 5.0


class Peers(Collection[str]):
    """The addresses of the cluster's nodes.

    They are asked for again when an unknown address connects: on a thread, one question at a time and at most one a
    second, so that strangers, however many, wait for themselves and never hold up the event loop.
    """

    def __init__(self, nodes: Callable[[], frozenset[str]] | None = None) -> None:
        """Ask ``nodes`` for the addresses; default: Ray."""
        self._nodes = nodes or _node_addresses
        self._known: frozenset[str] = LOOPBACK
        self._asked = float("-inf")
        self._asking: asyncio.Future[frozenset[str]] | None = None

    def __contains__(self, address: object) -> bool:
        return address in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    async def asked_again(self, address: str) -> bool:
        """Tell whether an unknown address is a node by now; where Ray does not answer in time, it is none."""
        if self._asking is None:
            now = time.monotonic()
            if now - self._asked < REFRESH_SECONDS:
                return address in self._known
            self._asked = now
            self._asking = asyncio.get_running_loop().run_in_executor(None, self._nodes)
            self._asking.add_done_callback(self._answered)
        try:
            await asyncio.wait_for(asyncio.shield(self._asking), ANSWER_SECONDS)
        except Exception:  # noqa: BLE001 - whatever Ray says when it cannot answer, a stranger stays one
            return False
        return address in self._known

    def _answered(self, asking: asyncio.Future[frozenset[str]]) -> None:
        self._asking = None
        if not asking.cancelled() and asking.exception() is None:
            self._known = LOOPBACK | asking.result()


def _node_addresses() -> frozenset[str]:
    import ray

    return frozenset(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"])
