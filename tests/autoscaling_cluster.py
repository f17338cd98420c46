"""A private cluster that scales by itself: Ray's own autoscaler, whose nodes are raylets on this machine.

Ray's ``AutoscalingCluster`` does not work from the wheel and stops every Ray on the machine; this head is a process of
our own, stopped by its id. The first nodes need some seconds, as real ones do; a node that idles is taken away.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayline import cluster
from rayline.cluster import NAMESPACE
from rayline.processes import descendants, kill

HEAD_ID = "f" * 51 + "00000"
START_S = 90.0
START_TRIES = 3
STOP_S = 30.0
STORE_BYTES = 120_000_000
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"


@dataclass(frozen=True)
class NodeType:
    """A kind of node that the autoscaler may start: what it has, and how many there may be."""

    cpus: float = 2
    most: int = 2
    least: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: float = 0


@dataclass(frozen=True)
class Node:
    """A living node.

    Attributes:
        id: Ray's, in hexadecimal; the head's is ``HEAD_ID``.
        kind: the name of its type, ``head`` for the head.
        labels: all of them, Ray's own too.
    """

    id: str
    kind: str
    labels: Mapping[str, str]


@dataclass
class AutoscalingCluster:
    """A head that runs; see ``autoscaling_cluster``.

    Attributes:
        address: for ``ray.init`` and ``RAY_ADDRESS``.
        dashboard: the URL of the job server; empty where there is none.
        environment: what another driver's process needs to connect: address and token.
    """

    process: subprocess.Popen[bytes]
    address: str
    token_path: str
    folder: Path
    dashboard: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": self.token_path,
        }

    def connect(self) -> None:
        """Connect this process as a driver."""
        import ray

        cluster.use_token(self.token_path)
        ray.init(address=self.address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")

    def nodes(self) -> list[Node]:
        """Return the nodes that live, the head first. Needs a connection."""
        import ray

        living = [each for each in ray.nodes() if each["Alive"]]
        found = [Node(each["NodeID"], each["Labels"].get("ray.io/node-group", ""), each["Labels"]) for each in living]
        return sorted(found, key=lambda node: node.id)

    def workers(self) -> list[Node]:
        """Return the living nodes that the autoscaler started."""
        return [node for node in self.nodes() if node.id != HEAD_ID]

    def kill_node(self, node_id: str) -> None:
        """Kill a node as a machine dies: its raylet and everything that it started, at once."""
        raylets = [pid for pid, command in descendants(self.process.pid).items() if "raylet/raylet" in command]
        for raylet in raylets:
            if _node_of(raylet) == node_id:
                for pid in [raylet, *descendants(raylet)]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return
        raise AssertionError(f"no process of node {node_id}")

    def stop(self) -> None:
        """Stop the head, its nodes and all that runs on them."""
        started = descendants(self.process.pid)
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        kill(self.process.pid, started)
        self.process.wait()


@contextmanager
def autoscaling_cluster(
    folder: Path,
    types: Mapping[str, NodeType] | None = None,
    *,
    head_cpus: float = 0,
    head_labels: Mapping[str, str] | None = None,
    idle_seconds: float = 6.0,
    most: int | None = None,
    environment: Mapping[str, str] | None = None,
    dashboard: bool = False,
    port: int | None = None,
    connect: bool = True,
) -> Iterator[AutoscalingCluster]:
    """Start a head that starts and stops nodes by what is asked of it, and stop everything at the end.

    Args:
        folder: for its files; its path must be short (Ray keeps sockets there: 60 characters at most), and is made.
        types: the nodes that it may start, by name; two of two CPUs where nothing is said.
        head_cpus: 0 lets nothing that takes a CPU run on the head.
        head_labels: the head's.
        idle_seconds: after which a node that does nothing goes.
        most: nodes of all types together; None sets no further limit.
        environment: further variables of the head and of every node, such as ``ingress_environment``.
        dashboard: start the job server.
        port: of the head; None takes a free one.
        connect: connect this process, and disconnect it at the end.
    """
    types = types if types is not None else {"worker": NodeType()}
    folder.mkdir(parents=True, exist_ok=True)
    spare, dashboard_port, client_port, agent_port, metrics_port = free_ports(5)
    port = port or spare
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    settings = {**_settings(str(token.resolve()), metrics_port), **(environment or {})}
    config = folder / "autoscaler.json"
    config.write_text(json.dumps(_config(types, head_cpus, idle_seconds, most, f"{node_ip()}:{port}")))
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port)]
    command += [f"--autoscaling-config={config}", "--num-cpus", f"{head_cpus:g}", "--temp-dir", str(folder / "r")]
    command += ["--object-store-memory", str(STORE_BYTES), "--disable-usage-stats", "--include-dashboard"]
    command += [str(dashboard).lower(), "--dashboard-port", str(dashboard_port), "--labels"]
    command += [
        ",".join(f"{key}={value}" for key, value in {"ray.io/node-group": "head", **(head_labels or {})}.items())
    ]
    command += ["--ray-client-server-port", str(client_port), "--dashboard-agent-listen-port", str(agent_port)]
    log = folder / "head.log"
    process = _started(command, {**os.environ, **settings}, log)
    started = AutoscalingCluster(
        process,
        f"{node_ip()}:{port}",
        str(token.resolve()),
        folder,
        f"http://127.0.0.1:{dashboard_port}" if dashboard else "",
    )
    try:
        if connect:
            started.connect()
        yield started
    finally:
        if connect:
            cluster.disconnect()
        started.stop()


def _settings(token: str, metrics_port: int) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": token,
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "AUTOSCALER_METRIC_PORT": str(metrics_port),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "10",  # seconds after which a node is taken for dead
    }


def _config(
    types: Mapping[str, NodeType], head_cpus: float, idle_seconds: float, most: int | None, address: str
) -> dict[str, Any]:
    nodes: dict[str, Any] = {
        name: {
            "resources": {"CPU": each.cpus, "object_store_memory": STORE_BYTES}
            | ({"GPU": each.gpus} if each.gpus else {}),
            "labels": {"ray.io/node-group": name, **each.labels},
            "node_config": {},
            "min_workers": each.least,
            "max_workers": each.most,
        }
        for name, each in types.items()
    }
    nodes["ray.head.default"] = {"resources": {"CPU": head_cpus}, "node_config": {}, "max_workers": 0}
    return {
        "cluster_name": "rayline-test",
        "max_workers": most if most is not None else sum(each.most for each in types.values()),
        "idle_timeout_minutes": idle_seconds / 60,
        "upscaling_speed": 100,
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "gcs_address": address,
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
        },
        "available_node_types": nodes,
        "head_node_type": "ray.head.default",
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


def _started(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start the head: again where Ray gave up, as it does on a busy machine after half a minute."""
    said = ""
    for _ in range(START_TRIES):
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=environment
            )
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            if "ray start --address=" in (said := log.read_text(errors="replace")):
                return process
            time.sleep(0.1)
        kill(process.pid, descendants(process.pid))
        process.wait()
    raise AssertionError(f"the head did not start:\n{said}")


def _node_of(raylet: int) -> str:
    """Return the id of the node whose raylet has this process id; the test provider hands it by the environment."""
    with suppress(OSError):
        for entry in Path(f"/proc/{raylet}/environ").read_bytes().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == b"RAY_OVERRIDE_NODE_ID_FOR_TESTING":
                return value.decode()
    return ""


def node_ip() -> str:
    """Return the address that Ray gives to nodes of this machine."""
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


def free_ports(count: int, first: int = 22300, last: int = 22399) -> list[int]:
    """Return so many different ports that nobody listens on."""
    span = last - first + 1
    offset = secrets.randbelow(span)
    found: list[int] = []
    for step in range(span):
        port = first + (offset + step) % span
        with socket.socket() as candidate, suppress(OSError):
            candidate.bind(("", port))
            found.append(port)
            if len(found) == count:
                return found
    raise AssertionError(f"fewer than {count} free ports from {first} to {last}")


@dataclass
class NodesOverTime:
    """Which nodes lived when: looked at a few times a second while the block runs.

    Attributes:
        changes: seconds from the start, and how many worker nodes there were from then on.
        seen, kinds: the ids and the types of all worker nodes that there were.
        marks: seconds from the start, and what was noted then.
    """

    cluster: AutoscalingCluster
    every: float = 0.25
    changes: list[tuple[float, int]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)
    marks: list[tuple[float, str]] = field(default_factory=list)

    def __enter__(self) -> NodesOverTime:
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def most(self) -> int:
        return max((count for _, count in self.changes), default=0)

    @property
    def counts(self) -> list[int]:
        """The numbers of worker nodes in the order in which they were seen, each once in a row."""
        return [count for _, count in self.changes]

    def mark(self, text: str) -> None:
        """Note what happens now beside the nodes."""
        self.marks.append((time.monotonic() - self._began, text))

    def text(self) -> str:
        """Return the course as lines: seconds, nodes, and what was marked."""
        lines = [(at, f"{count} worker node{'s' * (count != 1)} {'#' * count}") for at, count in self.changes]
        return "\n".join(f"{at:7.1f} s  {what}" for at, what in sorted([*lines, *self.marks]))

    def _look(self) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(self.every)  # the last look comes after the end
            living = self.cluster.workers()
            self.seen.update(node.id for node in living)
            self.kinds.update(node.kind for node in living)
            if not self.changes or self.changes[-1][1] != len(living):
                self.changes.append((time.monotonic() - self._began, len(living)))


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """Wait for a condition; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
