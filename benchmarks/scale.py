"""What do a thousand replicas cost the one actor that holds their plan, and the one that judges a rollout?

Question   CPU milliseconds and bytes of each thing that the control plane does for a fleet: a plan sent to all replicas
           and acknowledged by all, their counts collected, the window of an analysis merged, one decision, and the
           state that is written with it; and how many reports a second a real actor takes in.
Ceiling    What the same bytes cost when they are only unpickled and added up with NumPy: `floor` in the table.
Method     The live state, the observation and the rollout engine are the real ones. The replicas are coroutines in this
           process that poll as a replica does, with counts as a classification over 30 columns gives them (two live
           versions, 57 latency buckets, 10 levels a column, five slices). Time is this process's own CPU time, so that
           a busy machine changes little; each figure is the median of the rounds. Fleets of 10, 100 and 1,000 show how
           it grows. The last part sends reports to a live state that is a Ray actor, from two processes with 64 calls
           in flight each, and takes the actor's CPU time.
Command    python benchmarks/scale.py [--quick]

The last line is one JSON object. `growth_*` is the cost of 1,000 replicas over ten times that of 100: 1 is linear.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rayline.config import parse
from rayline.rollout.engine import Engine, Order
from rayline.rollout.plans.plan import Plan
from rayline.rollout.ports import Ports
from rayline.rollout.steady import SteadyClock
from rayline.rollout.storage.storage import RolloutFiles
from rayline.serving.records.observation import LATENCY_EDGES, ArmStats, Observation, SliceStats
from rayline.serving.traffic.live_state import LiveState
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan

SERVICE, COLUMNS, LEVELS, SLICES = "fleet", 30, 10, 5
ONE, TWO = LiveVersion(1, "/bundles/1", "a" * 64), LiveVersion(2, "/bundles/2", "b" * 64)
ANALYSIS = {
    "interval": 1.0,
    "count": 1_000,
    "metrics": [
        {"measure": "error_rate", "max": 0.01},
        {"measure": "latency", "quantile": 0.95, "max_ratio": 2.0},
        {"measure": "prediction_shift", "max": 0.5},
        {"measure": "accuracy", "max_decrease": 0.05},
    ],
}


def counts(seed: int, requests: int) -> ArmStats:
    """Return the counts of one version in one replica."""
    chance = np.random.default_rng(seed)
    latency = chance.multinomial(requests, np.exp(-((np.arange(len(LATENCY_EDGES) + 1) - 12.0) ** 2) / 20) / 7.93)
    levels = {f"level {each}": int(requests // LEVELS) for each in range(LEVELS)}
    part = requests // SLICES
    return ArmStats(
        requests=int(latency.sum()),
        latency_counts=tuple(int(each) for each in latency),
        prediction_counts={"no": requests // 3, "yes": requests - requests // 3},
        feedback=requests,
        correct=requests * 9 // 10,
        feature_counts={f"column_{each}": dict(levels) for each in range(COLUMNS)},
        slices={f"town={each}": SliceStats(part, part, part * 9 // 10) for each in range(SLICES)},
    )


class Replica:
    """Polls as a replica does; has every version loaded at once."""

    def __init__(self, state: LiveState, number: int) -> None:
        self._state = state
        stats = {"1": counts(number, 9_000).to_json(), "2": counts(number + 1, 1_000).to_json()}
        self.report: dict[str, Any] = {
            "replica": f"SERVE_REPLICA::{SERVICE}#replica#{number:08x}",
            "actor": f"SERVE_REPLICA::{SERVICE}#replica#{number:08x}",
            "pid": number,
            "round": 0,
            "generation": 0,
            "loaded": {"1": ONE.digest, "2": TWO.digest},
            "placed": {"1": "inline", "2": "inline"},
            "failed": {},
            "memory": {"used_mb": 400.0},
            "records": {},
            "stats": stats,
            "received": [],
        }

    async def follow(self) -> None:
        """Poll until cancelled."""
        while True:
            answer = await self._state.poll(self.report)
            self.report = {**self.report, "round": answer["round"]}
            if answer["plan"] is not None:
                self.report["generation"] = answer["plan"]["generation"]


async def in_control(replicas: int, rounds: int, folder: Path) -> dict[str, float]:
    """Measure a plan that reaches all replicas, and the collection of their counts."""
    state = LiveState(str(folder / f"{replicas}" / "plan.json"))
    await state.publish(TrafficPlan(SERVICE, 1, 1, (ONE, TWO), {1: 90, 2: 10}).to_json())
    fleet = [Replica(state, number) for number in range(replicas)]
    began = time.process_time()
    tasks = [asyncio.ensure_future(each.follow()) for each in fleet]
    while len(await state.replicas()) < replicas or any(each.report["generation"] < 1 for each in fleet):
        await asyncio.sleep(0)
    joined = time.process_time() - began
    sent, observed = [], []
    raw: dict[str, Any] = {}
    for number in range(rounds):
        began = time.process_time()
        await state.weigh(1, {1: 50 - number % 2, 2: 50 + number % 2}, 60.0)
        sent.append(time.process_time() - began)
        began = time.process_time()
        raw = await state.observe()
        observed.append(time.process_time() - began)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(raw["replicas"]) == replicas
    plan = await state.plan()
    return {
        "join_ms": joined * 1e3,
        "plan_to_all_ms": statistics.median(sent) * 1e3,
        "observe_ms": statistics.median(observed) * 1e3,
        "plan_bytes": len(pickle.dumps(plan)),
        "report_bytes": len(pickle.dumps(fleet[0].report)),
        "observation_bytes": len(pickle.dumps(raw)),
    }


class Fleet:
    """A service whose counts are made up: what the engine needs of one."""

    def __init__(self, replicas: int) -> None:
        self._plan = TrafficPlan.first(SERVICE, ONE)
        names = [f"SERVE_REPLICA::{SERVICE}#replica#{number:08x}" for number in range(replicas)]
        first, later = (
            {name: {1: counts(number, 9 * more), 2: counts(number + 1, more)} for number, name in enumerate(names)}
            for more in (1_000, 2_000)
        )
        self._raw = [pickle.dumps(Observation(0.0, 1, each).to_json()) for each in (first, later)]
        self.looks = 0

    def fenced(self, fence: int) -> Fleet:
        return self

    def plan(self) -> TrafficPlan:
        return self._plan

    def load(self, version: LiveVersion) -> None:
        self._plan = self._plan.adding(version)

    def set_weights(self, *, stable: int, weights: Mapping[int, int]) -> int:
        self._plan = self._plan.weighing(stable, dict(weights))
        return self._plan.generation

    def observe(self) -> Observation:
        """Return what `Service.observe` does: unpickled as Ray gives it, and read."""
        self.looks += 1
        return Observation.from_json(pickle.loads(self._raw[min(1, self.looks - 1)]))


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def in_judgement(replicas: int, rounds: int, folder: Path) -> dict[str, float]:
    """Measure the engine: one round of an analysis, and the parts that it is made of."""
    fleet, clock = Fleet(replicas), Clock()
    files = RolloutFiles(folder / f"rollout-{replicas}", SERVICE)
    ports = Ports(lambda name, storage: fleet, lambda uri, storage: None, lambda version: "binary")  # type: ignore[arg-type,return-value]
    engine = Engine(files, ports, SteadyClock(wall=clock, monotonic=clock))
    section = {"strategy": "canary", "steps": [{"set_weight": 10}, {"analysis": True}, {"set_weight": 100}]}
    raw = {"name": SERVICE, "data": {"source": "x"}, "features": {"target": "x"}}
    plan = Plan.from_config(parse({**raw, "rollout": {**section, "analysis": ANALYSIS}}).rollout)
    engine.start(Order("order", "rollout", plan, TWO, None, "exp"))
    while not fleet.looks:
        clock.now += 0.2
        engine.tick()
    taken = []
    for _ in range(rounds):
        clock.now += 1.1
        looks = fleet.looks
        taken.append(cpu(engine.tick) * 1e3)
        assert fleet.looks == looks + 1
    state = engine.state
    assert state is not None
    assert state.analysis is not None
    before, after = (Observation.from_json(pickle.loads(each)) for each in fleet._raw)
    pared = before.only(columns=False, slices=False)
    parts: dict[str, Callable[[], Any]] = {
        "read_ms": lambda: Observation.from_json(pickle.loads(fleet._raw[1])),
        "merge_all_ms": lambda: after.since(before),
        "merge_ms": lambda: after.only(columns=False, slices=False).since(pared),
        "state_ms": lambda: json.dumps(state.to_json()),
        "floor_ms": lambda: floor(fleet._raw[1]),
    }
    found = {name: statistics.median(cpu(work) for _ in range(rounds)) * 1e3 for name, work in parts.items()}
    engine.close()
    return {"decision_ms": statistics.median(taken), "state_bytes": len(json.dumps(state.to_json())), **found}


def floor(raw: bytes) -> int:
    """Unpickle an observation and add up its latency counts: what no implementation of ours can be below."""
    replicas = pickle.loads(raw)["replicas"]
    return int(np.array([each["latency_counts"] for arms in replicas.values() for each in arms.values()]).sum())


def cpu(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of this process that a call takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def on_ray(seconds: float, folder: Path) -> dict[str, float]:
    """Measure how many reports a second a live state takes in as a real actor."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        actor = ray.remote(_Timed).options(num_cpus=0, max_concurrency=10_000).remote(str(folder / "ray" / "plan.json"))
        ray.get(actor.publish.remote(TrafficPlan(SERVICE, 1, 1, (ONE, TWO), {1: 90, 2: 10}).to_json()))
        send = ray.remote(num_cpus=0.1)(_reports)
        ray.get([send.remote(actor, 0.2, place) for place in range(2)])  # their processes are up
        before = ray.get(actor.spent.remote())
        sent = ray.get([send.remote(actor, seconds, place) for place in range(2)])
        spent = ray.get(actor.spent.remote()) - before
        observed = time.perf_counter()
        size = len(pickle.dumps(ray.get(actor.observe.remote())))
        return {
            "reports_per_s": sum(sent) / seconds,
            "cpu_ms_per_report": spent / sum(sent) * 1e3,
            "actor_cores": spent / seconds,
            "observe_wall_ms": (time.perf_counter() - observed) * 1e3,
            "observe_bytes": size,
        }
    finally:
        ray.shutdown()


class _Timed(LiveState):
    async def spent(self) -> float:
        """Return the CPU seconds of the actor's process."""
        return time.process_time()


def _reports(actor: Any, seconds: float, place: int) -> int:
    import ray

    report = Replica(actor, place).report
    waiting: list[Any] = []
    sent, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        waiting += [actor.report.remote(report) for _ in range(64 - len(waiting))]
        done, waiting = ray.wait(waiting, num_returns=min(16, len(waiting)))
        sent += len(done)
    ray.get(waiting)
    return sent + len(waiting)


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: about a minute")
    options = parser.parse_args()
    rounds, seconds = (3, 3.0) if options.quick else (9, 10.0)
    warnings.filterwarnings("ignore")
    found: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for replicas in (10, 100, 1_000):
            control = asyncio.run(in_control(replicas, rounds, folder))
            found[replicas] = {**control, **in_judgement(replicas, rounds, folder)}
        live = on_ray(seconds, folder)
    report(found, live, rounds)
    return 0


LINES = {
    "join_ms": "all replicas heard for the first time",
    "plan_to_all_ms": "a plan sent to all and acknowledged",
    "observe_ms": "counts collected from all",
    "read_ms": "an observation unpickled and read",
    "merge_all_ms": "a window merged, every column and slice",
    "merge_ms": "a window merged, what most analyses look at",
    "state_ms": "the rollout's state written as JSON",
    "decision_ms": "one decision, all of it",
    "floor_ms": "floor: unpickled and added up",
    "plan_bytes": "bytes: a plan",
    "report_bytes": "bytes: a report of one replica",
    "observation_bytes": "bytes: an observation",
    "state_bytes": "bytes: a rollout's state on disk",
}


def report(found: Mapping[int, Mapping[str, float]], live: Mapping[str, float], rounds: int) -> None:
    """Print the tables, then the JSON line."""
    table = Table("CPU milliseconds", *(f"{replicas:,} replicas" for replicas in found))
    for name, words in LINES.items():
        table.add_row(words, *(_shown(name, each[name]) for each in found.values()))
    console = Console()
    console.print(table)
    console.print(
        f"a live state as a Ray actor: {live['reports_per_s']:,.0f} reports/s, {live['cpu_ms_per_report']:.2f} ms of"
        f" CPU each, {live['actor_cores']:.2f} cores"
    )
    line = {
        "benchmark": "scale",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("ray", "numpy", "msgspec")},
        "rounds": rounds,
        "results": {
            "replicas": {str(replicas): _rounded(each) for replicas, each in found.items()},
            "ray": _rounded(live),
        },
        "ratios": {
            f"growth_{name.removesuffix('_ms')}": round(found[1_000][name] / (10 * found[100][name]), 2)
            for name in ("plan_to_all_ms", "observe_ms", "merge_ms", "decision_ms")
        },
    }
    print(json.dumps(line))


def _shown(name: str, value: float) -> str:
    return f"{value:,.0f}" if name.endswith("bytes") else f"{value:,.2f}"


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


if __name__ == "__main__":
    sys.exit(main())
