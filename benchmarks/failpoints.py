"""Does every strategy come to its end, whichever moment its controller is killed at, and at what cost to clients?

Question   The rollout's controller kills itself (SIGKILL) before or after an action, a write, a look or a note. Does
           the rollout end as the unbroken one does, how long after the kill, and does any request fail?
Ceiling    Every round converges; 0 failed requests; within 30 s.
Method     One live service: two replicas on scikit-learn's wine, two versions, and clients that send predictions and
           feedback all the time. Each strategy moves traffic once unbroken, which tells the points that it passes.
           Then once for each point: the controller is armed, the rollout started, and the end compared with what it
           must be: phase, weights of the plan, every replica on that plan, versions that are loaded, MLflow's champion,
           nothing left to tell. Seconds are from the death of the process to that end, so they hold what the plan
           itself still takes. `abort` is a canary that a person takes back. `claim` dies while it takes over.
Command    python benchmarks/failpoints.py [--quick] [--every] [--strategy NAME] [--port 22500]

`--every` kills at notes too, and at the last passing of each point besides the first: about 40 minutes instead of 10.
The last line is one JSON object. Seconds are only as good as the machine is quiet; the counts do not depend on it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from rich.console import Console
from rich.table import Table

from rayline import cluster, config, flow, release
from rayline.config import Config, RolloutConfig
from rayline.demo.clients import Clients
from rayline.features.prepared import Prepared
from rayline.project import Project
from rayline.rollout import commands, failpoints
from rayline.rollout.controller import actor_name, controller
from rayline.rollout.ports import LIVE
from rayline.serving.service import Service

NAME = "wine"
DEADLINE_S = 90.0
GOAL_S = 30.0
TRAFFIC = ("load", "set_weights", "set_mirror", "set_routes", "place", "unload", "write", "observe")
QUICK = ("load.after", "set_weights.before", "write.after")
LOOK = {
    "interval": 0.5,
    "count": 2,
    "inconclusive_limit": 200,
    "metrics": [{"measure": "error_rate", "max": 0.05, "minimum_samples": 5}],
}
OUTSIDE = {  # a Python function, as a mirrored canary has no traffic of its own
    "interval": 0.5,
    "count": 2,
    "metrics": [{"measure": "function", "function": "operator:eq", "max": 0.5, "minimum_samples": 1}],
}
HOOK = {"on": ["step", "pause", "abort", "completion"], "function": "operator:truth"}
PLANS: dict[str, dict[str, Any]] = {
    "all_at_once": {"strategy": "all_at_once"},
    "blue_green": {
        "strategy": "blue_green",
        "blue_green": {"auto_promotion": True, "scale_down_delay": 0.5, "pre_promotion": OUTSIDE},
    },
    "canary": {"strategy": "canary", "analysis": LOOK},
    "linear": {"strategy": "linear", "linear": {"step_weight": 34, "interval": 0.5}},
    "shadow": {"strategy": "shadow", "analysis": OUTSIDE},
    "experiment": {
        "strategy": "experiment",
        "experiment": {"measure": "accuracy", "interval": 0.5, "minimum_samples": 5, "max_samples": 40},
    },
    "abort": {"strategy": "canary", "steps": [{"set_weight": 25}, {"pause": True}]},
}
PHASES = {"shadow": "Concluded", "experiment": "Concluded", "abort": "Degraded"}


@dataclass
class Outcome:
    """What the rounds of one strategy came to. Goal: every kill converged, none failed, 30 s at most."""

    points: int = 0
    kills: int = 0
    converged: int = 0
    requests: int = 0
    failed: int = 0
    worst_s: float = 0.0
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """A live service with two versions, under load."""

    settings: Config
    clients: Clients

    def plan(self, strategy: str) -> RolloutConfig:
        values = {**PLANS[strategy], "rollback_window": 0, "hooks": [HOOK]}
        return config.with_values(self.settings, {"rollout": values}).rollout

    def service(self) -> Service:
        return Service.connect(NAME, str(self.settings.storage))

    def start(self, strategy: str) -> int:
        """Begin a rollout to the version that is not stable. Returns the version that must rule in the end."""
        stable = self.service().plan().stable
        canary = 3 - stable
        project = Project(self.settings)
        commands.start(
            NAME,
            storage=project.storage,
            rollout=self.plan(strategy),
            version=release.live_version(project, canary),
            experiment=NAME,
        )
        if strategy == "abort":
            commands.wait(NAME, storage=project.storage, timeout=DEADLINE_S)
            commands.abort(NAME, storage=project.storage, reason="the benchmark says so")
        return canary if PHASES.get(strategy, "Healthy") == "Healthy" else stable

    def converged(self, strategy: str, ruling: int) -> str:
        """Wait for the end. Returns what is wrong with it; empty where nothing is."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            wrong = self.wrong(strategy, ruling)
            if not wrong or time.monotonic() > deadline:
                return wrong
            time.sleep(0.05)

    def wrong(self, strategy: str, ruling: int) -> str:
        state = commands.status(NAME, storage=self.settings.storage)
        wanted = PHASES.get(strategy, "Healthy")
        if not state.settled or state.phase != wanted:
            return f"{state.place}, not {wanted}: {state.message}"
        if state.notes:
            return f"{len(state.notes)} notes were not taken"
        plan = self.service().plan()
        shares = {number: weight for number, weight in plan.weights.items() if weight}
        if (plan.stable, shares, plan.numbers) != (ruling, {ruling: 100}, (ruling,)):
            return f"stable v{plan.stable}, weights {shares}, live {plan.numbers}; not v{ruling} alone"
        if plan.mirror is not None or plan.routes:
            return f"mirror {plan.mirror} and routes {plan.routes} are left"
        replicas = self.service().status()["replicas"]
        behind = [name for name, each in replicas.items() if each["generation"] != plan.generation]
        if behind or not replicas:
            return f"replicas {behind} do not follow plan {plan.generation}"
        champion = Project(self.settings).store.version(NAME, "@champion").number
        return "" if champion == ruling else f"champion is v{champion}, not v{ruling}"

    def actor(self) -> Any:
        return controller(NAME, str(self.settings.storage), LIVE)

    def process(self) -> int:
        return int(ray.get(self.actor().__ray_call__.remote(lambda self: __import__("os").getpid()), timeout=60))


def main() -> int:
    """Run the benchmark. Returns the process's exit status: 1 where a round did not converge or a request failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three points of three strategies")
    parser.add_argument("--every", action="store_true", help="notes too, and the last passing of each point")
    parser.add_argument("--strategy", choices=sorted([*PLANS, "claim"]), action="append", help="only this one")
    parser.add_argument("--port", type=int, default=22500)
    options = parser.parse_args()
    names = options.strategy or (["canary", "shadow", "abort"] if options.quick else [*PLANS, "claim"])
    found: dict[str, Outcome] = {}
    with service(options.port) as bench:
        for name in names:
            found[name] = claimed(bench) if name == "claim" else strategy(bench, name, options)
            print(f"{name}: {asdict(found[name])}", flush=True)
    report(found)
    return int(any(each.converged < each.kills or each.failed or each.troubles for each in found.values()))


def strategy(bench: Bench, name: str, options: argparse.Namespace) -> Outcome:
    """Kill the controller at each point that one strategy passes."""
    outcome = Outcome()
    passed = unbroken(bench, name)
    chosen = [
        (point, count)
        for point, most in sorted(passed.items())
        if options.every or point.split(".")[0] in TRAFFIC
        for count in ({1, most} if options.every else {1})
    ]
    if options.quick:
        chosen = [each for each in chosen if each[0] in QUICK]
    outcome.points = len({point for point, _ in chosen})
    for point, count in chosen:
        one_round(bench, name, point, count, outcome)
    return outcome


def unbroken(bench: Bench, name: str) -> Counter[str]:
    """Run a strategy unbroken. Returns how often it passed each point."""
    watched = "rayline.rollout.failpoints"
    ray.get(bench.actor().__ray_call__.remote(lambda self, module: __import__(module, fromlist=["x"]).watch(), watched))
    wrong = bench.converged(name, bench.start(name))
    if wrong:
        raise RuntimeError(f"{name} does not come to its end unbroken: {wrong}")
    return Counter(
        ray.get(
            bench.actor().__ray_call__.remote(
                lambda self, module: dict(__import__(module, fromlist=["x"]).passed), watched
            )
        )
    )


def one_round(bench: Bench, name: str, point: str, count: int, outcome: Outcome) -> None:
    """Arm the controller, run the strategy, and compare its end."""
    bench.actor()
    process = bench.process()
    module = "rayline.rollout.failpoints"
    arm: Callable[..., Any] = lambda self, module, *where: __import__(module, fromlist=["x"]).arm(*where)  # noqa: E731 - travels by value
    ray.get(bench.actor().__ray_call__.remote(arm, module, point, count))
    with death(process) as died:
        settle(bench, name, f"{name} at {point}:{count}", outcome, died)


def claimed(bench: Bench) -> Outcome:
    """Kill a controller that is taking over, before and after it has its number."""
    outcome = Outcome(points=2)
    for point in ("claim.before", "claim.after"):
        with suppress(ValueError):
            ray.kill(ray.get_actor(actor_name(NAME), namespace=cluster.NAMESPACE), no_restart=True)
        os.environ[failpoints.VARIABLE] = f"{point}:1"
        try:
            settle(bench, "canary", f"canary at {point}", outcome, [time.monotonic()])
        finally:
            del os.environ[failpoints.VARIABLE]
    return outcome


def settle(bench: Bench, name: str, what: str, outcome: Outcome, died: list[float]) -> None:
    """Run one rollout that a kill interrupts, and count what came of it."""
    requests, failed = bench.clients.requests, bench.clients.failures
    wrong = bench.converged(name, bench.start(name))
    ended = time.monotonic()
    outcome.requests += bench.clients.requests - requests
    outcome.failed += bench.clients.failures - failed
    if not died:
        outcome.troubles.append(f"{what}: nobody was killed")
        return
    outcome.kills += 1
    outcome.worst_s = max(outcome.worst_s, ended - died[0])
    if wrong:
        outcome.troubles.append(f"{what}: {wrong}")
    else:
        outcome.converged += 1
    if ended - died[0] > GOAL_S:
        outcome.troubles.append(f"{what}: {ended - died[0]:.1f} s")


@contextmanager
def death(process: int) -> Iterator[list[float]]:
    """Give a list that holds the moment of a process's death, once it has died."""
    died: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if not Path(f"/proc/{process}").exists() or _zombie(process):
                died.append(time.monotonic())
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield died
    finally:
        over.set()
        thread.join()


def _zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] in ("Z", "X")
    except OSError:
        return True


def settings_of(folder: Path, port: int, **changes: Any) -> Config:
    """Return the project's configuration."""
    return config.parse(
        {
            "name": NAME,
            "data": {"source": "sklearn:wine"},
            "features": {"target": "target"},
            "model": {"hidden": [8]},
            "train": {"epochs": 10, "batch_size": 16, "learning_rate": 0.01},
            "service": {"port": port, "replicas": 2, "num_cpus": 0.25},
            "storage": str(folder),
            **changes,
        }
    )


@contextmanager
def service(port: int) -> Iterator[Bench]:
    """Give a service on version 1, with version 2 registered, under load; stop all of it in the end."""
    with tempfile.TemporaryDirectory(prefix="rayline-failpoints-") as name:
        folder = Path(name)
        first = settings_of(folder, port)
        try:
            outcome = flow.run(first)
            better = settings_of(folder, port, model={"hidden": [16]})
            flow.run(better, until="register")
            prepared = Prepared.load(outcome.result("features")["path"])
            table = prepared.test_table()
            rows = table.select(list(prepared.features.input_columns)).to_pylist()
            with Clients(release.service_url(first), rows, table.column("target").to_pylist()) as clients:
                yield Bench(better, clients)
        finally:
            cluster.stop(folder)


def report(found: dict[str, Outcome]) -> None:
    """Print the table, the troubles, and the last line."""
    table = Table(title=f"controllers killed, on a live service (goal: 0 failed, {GOAL_S:.0f} s)")
    for column in ("strategy", "failpoints", "kills", "converged", "requests", "failed", "worst seconds"):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    for name, each in found.items():
        counts = (each.points, each.kills, each.converged, each.requests, each.failed)
        table.add_row(name, *(f"{count:,}" for count in counts), f"{each.worst_s:.1f}")
    Console().print(table)
    for each in found.values():
        for trouble in each.troubles:
            print(f"trouble: {trouble}")
    kills = sum(each.kills for each in found.values())
    print(
        json.dumps(
            {
                "benchmark": "failpoints",
                "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
                "versions": {name: version(name) for name in ("ray", "mlflow")},
                "rounds": kills,
                "results": {name: asdict(each) for name, each in found.items()},
                "ratios": {"converged": sum(each.converged for each in found.values()) / max(1, kills)},
            }
        )
    )


if __name__ == "__main__":
    sys.exit(main())
