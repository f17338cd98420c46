"""A private cluster of several real nodes on this machine: Rayline's own local head, and worker nodes that join it.

Each node is what ``ray start --block`` starts, in processes of its own. One that is killed goes as a machine does: its
raylet and every process below it at once, without a word.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rayline import cluster, processes

START_S = 150.0
TRIES = 2


@dataclass
class Node:
    """A worker node: its name, which is a resource of it too, and its first process."""

    name: str
    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        """Whether its first process runs."""
        return self.process.poll() is None


@dataclass
class NodeCluster:
    """The head of a project's storage and the worker nodes that joined it."""

    storage: Path
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def head(self) -> cluster.LocalCluster:
        """The head that was started last."""
        found = cluster.last(self.storage)
        assert found is not None
        return found

    def add(self, name: str, cpus: float = 1, resources: Mapping[str, float] | None = None) -> Node:
        """Join a worker node; it is known to the cluster when this returns. A busy machine may need a second try."""
        for _ in range(TRIES):
            node = self._start(name, cpus, resources or {})
            until(partial(self._tried, node), f"node '{name}' to join", START_S)
            if node.alive:
                return node
            self.kill(name)
        raise AssertionError((self.storage / f"node-{name}.log").read_text()[-2000:])

    def _tried(self, node: Node) -> bool:
        return not node.alive or self.known(node.name)

    def _start(self, name: str, cpus: float, resources: Mapping[str, float]) -> Node:
        head = self.head
        held = {name: 100.0, **resources}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--address", head.address]
        command += ["--node-ip-address", "127.0.0.1", "--num-cpus", f"{cpus:g}", "--disable-usage-stats"]
        command += ["--object-store-memory", str(100 * 1024**2), "--resources", json.dumps(held)]
        log = self.storage / f"node-{name}.log"
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": head.token_path}
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **head.environment, **token},
            )
        self.nodes[name] = Node(name, process)
        return self.nodes[name]

    def known(self, name: str) -> bool:
        """Tell whether the cluster has a living node of that name. Ray must be connected."""
        import ray

        return any(each["Alive"] and name in each["Resources"] for each in ray.nodes())

    def kill(self, name: str) -> None:
        """Take a worker node away as a machine goes: all of its processes at once."""
        node = self.nodes.pop(name)
        kill_tree(node.process.pid)
        node.process.wait()

    def kill_head(self) -> None:
        """Take the head away in the same way. Whoever is connected to it notices."""
        pid = self.head.pid
        kill_tree(pid)
        until(lambda: cluster.alive(self.storage) is None, "the head to end")

    def close(self) -> None:
        """Stop everything."""
        for name in list(self.nodes):
            self.kill(name)
        cluster.stop(self.storage)


def kill_tree(pid: int) -> None:
    """Kill a process and all below it, stopped first so that none acts on the death of another."""
    below = [pid, *processes.descendants(pid)]
    for sign in (signal.SIGSTOP, signal.SIGKILL):
        for each in below:
            with suppress(ProcessLookupError):
                os.kill(each, sign)


@contextmanager
def node_cluster(storage: Path) -> Iterator[NodeCluster]:
    """Give the nodes of the storage's local cluster, whose head must run; stop all of it in the end."""
    found = NodeCluster(storage)
    try:
        yield found
    finally:
        found.close()


def until(read: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Return the first true value that ``read`` gives; fail when none came in ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := read()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return value
