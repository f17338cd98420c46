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
        return name in self.names().values()

    def names(self) -> dict[str, str]:
        """Return the names of the living worker nodes by Ray's id of them. Ray must be connected."""
        import ray

        living = [each for each in ray.nodes() if each["Alive"]]
        return {each["NodeID"]: name for each in living for name in self.nodes if name in each["Resources"]}

    def holds(self, name: str, title: str) -> list[int]:
        """Return the processes of a worker node that Ray calls so, such as ``ray::GroupActor``."""
        below = processes.descendants(self.nodes[name].process.pid)
        return [pid for pid, command in below.items() if command.startswith(title)]

    def kill(self, name: str) -> None:
        """Take a worker node away as a machine goes: all of its processes at once."""
        node = self.nodes.pop(name)
        kill_tree(node.process.pid)
        node.process.wait()

    def kill_head(self) -> None:
        """Take the head away in the same way. Whoever is connected to it notices."""
        pid = self.head.pid
        kill_tree(pid)
        started = cluster._heads.pop(pid, None)
        if started is not None:
            started.wait()
        until(lambda: cluster.alive(self.storage) is None, "the head to end")

    def start_head_anew(self) -> None:
        """Start a head in place of one that has lost its state: as large, on the same port, with the same variables."""
        cluster.end_leftovers(self.storage)
        former = self.head
        cluster._start_head(self.storage, former.port, former.environment, former.gcs_storage, former.cpus)

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


def listening(pid: int) -> set[int]:
    """Return the TCP ports that a process listens on."""
    sockets = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            sockets.add(os.readlink(each))
    read = "".join(Path(f"/proc/{pid}/net/{file}").read_text() for file in ("tcp", "tcp6"))
    lines = [line.split() for line in read.splitlines()]
    return {
        int(each[1].rpartition(":")[2], 16) for each in lines if each[3] == "0A" and f"socket:[{each[9]}]" in sockets
    }


def marked(variable: str, value: str) -> list[int]:
    """Return the processes that were started with a variable of that value."""
    found, mark = [], f"{variable}={value}".encode()
    for each in processes.living():
        with suppress(OSError):
            if mark in Path(f"/proc/{each.pid}/environ").read_bytes().split(b"\0"):
                found.append(each.pid)
    return found


@contextmanager
def node_cluster(
    storage: Path, port: int, environment: Mapping[str, str], gcs_storage: cluster.GcsStorage = "memory"
) -> Iterator[NodeCluster]:
    """Start a head that computes nothing, as the local cluster of a storage; stop it and all nodes in the end.

    Commands on that storage find it by themselves, and a dead one is started again by them where it has kept its state.
    """
    storage.mkdir(parents=True, exist_ok=True)
    settings = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0", **environment}
    if gcs_storage == "rocksdb":
        settings |= cluster.lasting_settings(storage)
    found = NodeCluster(storage)
    try:
        cluster._start_head(storage, port, settings, gcs_storage, cpus=0)
        yield found
    finally:
        found.close()


def until(read: Callable[[], Any], what: str, seconds: float = 180.0) -> Any:
    """Return the first true value that ``read`` gives; fail when none came in ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := read()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return value
