"""What does a client of a live service notice when its processes die, and how soon is all as before?

Question   Weights are moved, and processes of a live service are killed by SIGKILL: the rollout's controller, the live
           state, a replica, Serve's controller, the ingress (HAProxy, or Serve's plain proxy). And with every RPC of
           Ray lost or doubled at 1 %. How many requests fail, at the first try and after one retry, and how many
           seconds pass until everything stands again?
Ceiling    0 failed, 0 seconds.
Method     A user's project on scikit-learn's wine: two versions, two replicas, the ingress of a laptop. Clients on
           keep-alive connections send rows at a bounded rate all the while; a request that fails is sent once more, as
           the client contract allows, and both are counted. `weights`: the split changes again and again. `controller`:
           a rollout waits at 10 % while its controller dies. `rpc`: the weights again, on a cluster whose actors' calls
           are lost before or after they arrive, at 1 % each. A round ends when what was killed is back and follows the
           plan; `to recover` is from the kill to then, `outage` from the first failed request of a round to its last.
Command    python benchmarks/faults.py [--quick] [--fault weights|controller|live_state|replica|serve_controller|
           haproxy|proxy|rpc] [--rounds 10] [--seconds 60] [--rate 300]

`--seconds` is the least time for `weights` and `rpc`. The last line is one JSON object. Seconds are only as good as the
machine is quiet; the counts hardly depend on it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rayline import cluster, config, flow, release
from rayline.cluster import NAMESPACE
from rayline.config import Config
from rayline.project import Project
from rayline.rollout import commands
from rayline.rollout.controller import actor_name
from rayline.serving.names import live_state_name
from rayline.serving.service import Service

NAME = "wine"
CLIENTS = 6
DEADLINE_S = 120.0
CHAOS = {"num_failures": -1, "req_failure_prob": 1, "resp_failure_prob": 1}
"""In percent: a call is lost on its way, or its answer is, so that it is made twice."""
WORLDS = {
    "haproxy": ("weights", "controller", "live_state", "replica", "serve_controller", "haproxy"),
    "proxy": ("proxy",),
    "rpc": ("rpc",),
}


@dataclass
class Damage:
    """What a fault cost in all its rounds. Goal: 0 everywhere, but for rounds and requests."""

    rounds: int = 0
    requests: int = 0
    failed_first: int = 0
    failed_after_retry: int = 0
    recover_s: list[float] = field(default_factory=list)
    outage_s: list[float] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


class Clients:
    """Threads that ask at a bounded rate, each on one connection, and ask once more where that fails."""

    def __init__(self, port: int, rows: list[dict[str, Any]], rate: float) -> None:
        self._port = port
        self._bodies = [json.dumps({"rows": [row]}).encode() for row in rows]
        self._pause = CLIENTS / rate
        self._stop = threading.Event()
        self.requests = 0
        self.failed_after_retry = 0
        self.failures: list[tuple[float, str]] = []
        """When a first try failed, and how."""
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(seed,), daemon=True) for seed in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, seed: int) -> None:
        chance = random.Random(seed)
        connection = self._connection()
        due = time.monotonic() + chance.random() * self._pause
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._pause, time.monotonic())  # a wait is not made good by a burst
            body = chance.choice(self._bodies)
            began = time.monotonic()
            why, connection = self._ask(connection, body)
            lost = ""
            if why:
                lost, connection = self._ask(connection, body)
            with self._lock:
                self.requests += 1
                if why:
                    self.failures.append((began, why))
                if lost:
                    self.failed_after_retry += 1
                    self.failures.append((time.monotonic(), f"retry: {lost}"))

    def _ask(self, connection: http.client.HTTPConnection, body: bytes) -> tuple[str, http.client.HTTPConnection]:
        """Ask once. Return what went wrong, and the connection for the next time."""
        try:
            connection.request("POST", f"/{NAME}/predict", body, {"content-type": "application/json"})
            reply = connection.getresponse()
            said = reply.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return type(error).__name__, self._connection()
        if reply.status == 200:
            return "", connection
        return f"{reply.status} {said[:120].decode(errors='replace').strip()}", connection

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=15)


@dataclass
class Bench:
    """One live service with two versions, and its clients."""

    project: Project
    service: Service
    clients: Clients
    chance: random.Random

    def split(self) -> None:
        """Move the weights to something else."""
        share = self.chance.randrange(0, 101)
        self.service.set_weights(stable=1, weights={1: 100 - share, 2: share})

    def replicas(self) -> dict[str, int]:
        """Return the live replicas that follow the plan, with their processes."""
        generation = self.service.plan().generation
        known = self.service.status()["replicas"]
        return {name: each["pid"] for name, each in known.items() if each["generation"] == generation}

    def whole(self) -> bool:
        """Tell whether both replicas follow the plan."""
        return len(self.replicas()) == 2

    def answers(self, count: int = 20) -> bool:
        """Tell whether the next requests are all answered at the first try."""
        failed, seen = len(self.clients.failures), self.clients.requests
        while self.clients.requests < seen + count:
            time.sleep(0.02)
            if len(self.clients.failures) > failed:
                return False
        return True


def main() -> int:
    """Run the benchmark. Returns the process's exit status: 1 where a goal was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds and five seconds of each")
    parser.add_argument("--fault", choices=[fault for faults in WORLDS.values() for fault in faults])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=300.0, help="requests per second of all clients")
    parser.add_argument("--port", type=int, default=18400)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 2, 5.0
    found: dict[str, Damage] = {}
    with tempfile.TemporaryDirectory(prefix="rayline-faults-", ignore_cleanup_errors=True) as name:
        prepare(Path(name), options.port)
        for kind, faults in WORLDS.items():
            wanted = [each for each in faults if options.fault in (None, each)]
            if wanted:
                with world(Path(name), options.port, kind, options.rate) as bench:
                    for fault in wanted:
                        found[fault] = Damage()
                        suffer(bench, fault, found[fault], options.rounds, options.seconds)
                        print(f"{fault}: {asdict(found[fault])}", flush=True)
    report(found)
    return int(any(each.failed_after_retry or each.troubles for each in found.values()))


def settings(folder: Path, port: int, **changes: Any) -> Config:
    """Return the project's configuration."""
    pause = {"strategy": "canary", "steps": [{"set_weight": 10}, {"pause": True}]}
    values = {
        "name": NAME,
        "data": {"source": "sklearn:wine"},
        "features": {"target": "target"},
        "model": {"hidden": [8]},
        "train": {"epochs": 10, "batch_size": 16, "learning_rate": 0.01},
        "service": {"port": port, "replicas": 2, "num_cpus": 0.25},
        "rollout": pause,
        "storage": str(folder / ".rayline"),
    }
    return config.parse(values | changes)


def prepare(folder: Path, port: int) -> None:
    """Train and register two versions."""
    for hidden in ([8], [16]):
        flow.run(settings(folder, port, model={"hidden": hidden}), until="register")
    cluster.stop(folder / ".rayline")


@contextmanager
def world(folder: Path, port: int, kind: str, rate: float) -> Iterator[Bench]:
    """Start the service on a cluster of its own, with its clients, and stop both afterwards."""
    ingress = "proxy" if kind == "proxy" else "auto"
    service = {"port": port, "replicas": 2, "num_cpus": 0.25, "ingress": ingress}
    project = Project(settings(folder, port, model={"hidden": [16]}, service=service))
    before = dict(os.environ)
    if kind == "rpc":
        methods = ("CoreWorkerService.grpc_client.PushTask", "CoreWorkerService.grpc_client.ActorCallArgWaitComplete")
        os.environ.update({"RAY_testing_rpc_failure": json.dumps(dict.fromkeys(methods, CHAOS))})
    try:
        release.release(project, 1)
        live = Service.connect(NAME, project.storage)
        live.load(release.live_version(project, 2))
        rows = [dict(row) for row in _bundle(project).example]
        with Clients(port, rows, rate if kind != "proxy" else rate / 5) as clients:
            bench = Bench(project, live, clients, random.Random(0))
            until(lambda: clients.requests > 100, "the first answers")
            yield bench
    finally:
        cluster.stop(project.storage)
        os.environ.clear()
        os.environ.update(before)


def suffer(bench: Bench, fault: str, damage: Damage, rounds: int, seconds: float) -> None:
    """Do a fault again and again, and count what it costs."""
    clients = bench.clients
    requests, lost, first = clients.requests, clients.failed_after_retry, len(clients.failures)
    try:
        with FAULTS[fault](bench) as strike:
            ends = time.monotonic() + (seconds if fault in ("weights", "rpc") else 0)
            while damage.rounds < rounds or time.monotonic() < ends:
                once(bench, strike, damage)
    except Exception as error:  # noqa: BLE001 - the other faults go on
        damage.troubles.append(f"{type(error).__name__}: {error}")
    failures = clients.failures[first:]
    damage.requests = clients.requests - requests
    damage.failed_after_retry = clients.failed_after_retry - lost
    damage.failed_first = sum(not why.startswith("retry: ") for _, why in failures)
    damage.reasons = dict(Counter(why for _, why in failures).most_common(8))


def once(bench: Bench, strike: Callable[[], None], damage: Damage) -> None:
    """Do a fault once, and wait until all is as before."""
    failed, began = len(bench.clients.failures), time.monotonic()
    strike()
    damage.recover_s.append(time.monotonic() - began)
    bench.answers()
    failures = bench.clients.failures[failed:]
    damage.outage_s.append(failures[-1][0] - failures[0][0] if failures else 0.0)
    damage.rounds += 1


@contextmanager
def moved_weights(bench: Bench) -> Iterator[Callable[[], None]]:
    """Each round moves the weights; it ends when every replica follows."""
    yield bench.split


@contextmanager
def killed_controller(bench: Bench) -> Iterator[Callable[[], None]]:
    """Each round kills the controller of a rollout that waits for a person."""
    bench.service.set_weights(stable=1, weights={1: 100})
    bench.service.unload(2)
    release.start(bench.project, 2)
    storage = bench.project.storage
    until(lambda: commands.status(NAME, storage=storage).weight == 10, "10 %")

    def strike() -> None:
        killed = kill(_actor_process(actor_name(NAME), NAMESPACE))
        until(lambda: _actor_process(actor_name(NAME), NAMESPACE) not in (None, killed), "the controller")
        commands.pause(NAME, storage=storage)
        commands.resume(NAME, storage=storage)

    yield strike
    commands.abort(NAME, storage=storage)
    commands.wait(NAME, storage=storage, timeout=DEADLINE_S)
    until(lambda: bench.service.plan().weights.get(2, 0) == 0, "the canary to be taken back")
    bench.service.load(release.live_version(bench.project, 2))


@contextmanager
def killed_live_state(bench: Bench) -> Iterator[Callable[[], None]]:
    """Each round kills the actor that holds the plan; it ends when a change of the plan is with every replica."""

    def strike() -> None:
        kill(_actor_process(live_state_name(NAME), NAMESPACE))
        bench.split()
        until(bench.whole, "both replicas")

    yield strike


@contextmanager
def killed_replica(bench: Bench) -> Iterator[Callable[[], None]]:
    """Each round kills one of two replicas; it ends when two follow the plan again."""

    def strike() -> None:
        until(bench.whole, "two replicas")
        known = bench.replicas()
        victim = bench.chance.choice(sorted(known))
        kill(known[victim])
        until(lambda: victim not in (now := bench.replicas()) and len(now) == 2, "a new replica")

    yield strike


@contextmanager
def killed_serve_controller(bench: Bench) -> Iterator[Callable[[], None]]:
    """Each round kills Serve's controller; it ends when that says again that the service runs."""

    def strike() -> None:
        killed = kill(one_process(bench, "ray::ServeController"))
        until(lambda: one_process(bench, "ray::ServeController") not in (None, killed), "Serve's controller")
        until(lambda: bench.service.status()["application"] == "RUNNING", "the service to be RUNNING")

    yield strike


@contextmanager
def killed_haproxy(bench: Bench) -> Iterator[Callable[[], None]]:
    """Each round kills the HAProxy process; it ends when requests are answered again."""

    def strike() -> None:
        kill(one_process(bench, "haproxy", argument="-f"))
        until(bench.answers, "answers")

    yield strike


@contextmanager
def killed_proxy(bench: Bench) -> Iterator[Callable[[], None]]:
    """Each round kills Serve's Python proxy; it ends when requests are answered again."""

    def strike() -> None:
        kill(one_process(bench, "ray::ProxyActor"))
        until(bench.answers, "answers")

    yield strike


FAULTS = {
    "weights": moved_weights,
    "controller": killed_controller,
    "live_state": killed_live_state,
    "replica": killed_replica,
    "serve_controller": killed_serve_controller,
    "haproxy": killed_haproxy,
    "proxy": killed_proxy,
    "rpc": moved_weights,
}


def kill(process: int | None) -> int:
    """Kill a process."""
    if process is None:
        raise RuntimeError("there was nothing to kill")
    os.kill(process, signal.SIGKILL)
    return process


def until(holds: Callable[[], Any], what: str) -> None:
    """Wait for a condition. Raises ``TimeoutError``."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {DEADLINE_S:.0f} s for {what}")
        time.sleep(0.02)


def one_process(bench: Bench, title: str, argument: str = "") -> int | None:
    """Return the youngest process of the project's own cluster with a title, or program, and an argument."""
    head = cluster.alive(bench.project.storage)
    titles: dict[int, list[str]] = {}
    parents: dict[int, int] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                titles[int(place.name)] = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
                state = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(place.name)] = int(state[1])

    def is_ours(process: int) -> bool:
        while head is not None and process in parents and process != head.pid:
            process = parents[process]
        return head is not None and process == head.pid

    def fits(words: list[str]) -> bool:
        return words[0].rpartition("/")[2].startswith(title) and (not argument or argument in words)

    return max((each for each, words in titles.items() if fits(words) and is_ours(each)), default=None)


def _actor_process(name: str, namespace: str) -> int | None:
    import ray

    try:
        actor = ray.get_actor(name, namespace=namespace)
        pid: int = ray.get(actor.__ray_call__.remote(lambda self: os.getpid()), timeout=5)
    except (ValueError, ray.exceptions.RayError):
        return None
    return pid


def _bundle(project: Project) -> Any:
    from rayline.registry.bundle import Bundle

    return Bundle.load(release.live_version(project, 1).path)


def report(found: dict[str, Damage]) -> None:
    """Print the table, then one JSON line."""
    table = Table(title="Faults on a live service")
    for heading in ("fault", "rounds", "requests", "failed at first", "failed after one retry"):
        table.add_column(heading)
    table.add_column("s to recover, median (max)")
    table.add_column("outage s, median (max)")
    for name, each in found.items():
        counts = (each.rounds, each.requests, each.failed_first, each.failed_after_retry)
        table.add_row(name, *map(str, counts), _spread(each.recover_s), _spread(each.outage_s))
    Console().print(table)
    packages = {name: version(name) for name in ("ray", "rayline")}
    machine = {"host": socket.gethostname(), "cpus": os.cpu_count(), "python": platform.python_version()}
    results = {name: asdict(each) for name, each in found.items()}
    summary = {"benchmark": "faults", "machine": machine, "versions": packages}
    rounds = max((each.rounds for each in found.values()), default=0)
    print(json.dumps(summary | {"rounds": rounds, "results": results, "ratios": {}}))


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({max(seconds):.2f})" if seconds else "-"


if __name__ == "__main__":
    sys.exit(main())
