"""What does it cost a training to tell MLflow what it does?

Question   The share of a small model's step that logging one metric in it takes on the training thread; the time of
           such a call against plain `mlflow.log_metric`; and how fast the queue behind it empties into MLflow.
Ceiling    No cost at all: a loop that logs nothing.
Method     A network of 32, 64, 64 and 1 units on batches of 128 rows, trained by AdamW in plain PyTorch on one thread.
           It logs its loss in every step, which is more than any training should, through Rayline's queue, while the
           background thread delivers to MLflow on SQLite. The call's own time is taken inside the loop, and the whole
           loop is timed with and without logging besides (that ratio holds the background thread too, and the noise of
           the machine). `mlflow.log_metric` is called on a run of its own in the same database. Rounds are interleaved
           and begin with another arm each time; medians. Then a full queue is emptied: points of one run, and 64 trials
           of 60 points, 30 parameters and three data sets each, one nested run for each trial.
Command    python benchmarks/tracking.py [--quick]

The last line is one JSON object. Both ratios are of times: below 1 is in Rayline's favour, and `log_share_of_step`
should stay under 0.01.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from rayline.config import FeaturesConfig
from rayline.features.facts import DataFacts
from rayline.features.schemas.inference import schema_for
from rayline.features.splits.identity import PartFacts
from rayline.registry.mlflow_store import MlflowStore
from rayline.registry.spool import Spool, Tracking
from rayline.registry.store import Point, now_ms

TRIALS, EPOCHS = 64, 15
PARTS = {"train": PartFacts(80, "a" * 32), "valid": PartFacts(20, "b" * 32), "test": PartFacts(20, "c" * 32)}


class Loop:
    """The small training."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        units = (32, 64, 64, 1)
        layers = [torch.nn.Linear(before, after) for before, after in pairwise(units)]
        self._net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
        self._optimizer = torch.optim.AdamW(self._net.parameters())
        self._x, self._y = torch.randn(128, 32), torch.randn(128)

    def seconds(self, steps: int, log: Callable[[int], None] | None) -> tuple[float, float]:
        """Return the seconds of some steps, and of the calls to ``log`` in them."""
        clock, inside = time.perf_counter, 0.0
        began = clock()
        for step in range(steps):
            self._optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.mse_loss(self._net(self._x)[:, 0], self._y)
            loss.backward()
            self._optimizer.step()
            if log is not None:
                called = clock()
                log(step)
                inside += clock() - called
        return clock() - began, inside


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: about a minute")
    options = parser.parse_args()
    steps, rounds, points = (1_000, 3, 5_000) if options.quick else (4_000, 7, 50_000)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        store = MlflowStore.open(None, folder)
        tracking = Tracking(Path(folder) / "queues", lambda: store, drain_seconds=60.0)
        taken = hot_path(tracking, store, steps, rounds)
        rates = {"points_per_s": emptied(tracking, points), "trials_per_s": trials(tracking)}
    report(taken, rates, rounds)
    return 0


def hot_path(tracking: Tracking, store: MlflowStore, steps: int, rounds: int) -> dict[str, list[float]]:
    """Measure the calls: microseconds of each arm in each round."""
    import mlflow

    mlflow.set_tracking_uri(store.tracking_uri)
    mlflow.set_experiment("plain")
    loop, spool = Loop(), opened(tracking, "run-hot")
    counts = {"ours": 0, "mlflow": 0}

    def ours() -> None:
        counts["ours"] += 1
        spool.log_metrics("run-hot", [Point("train_loss", 0.25, counts["ours"], now_ms())])

    def plain() -> None:
        counts["mlflow"] += 1
        mlflow.log_metric("train_loss", 0.25, step=counts["mlflow"])

    taken: dict[str, list[float]] = {name: [] for name in ("step", "step with log", "call in step", "call", "mlflow")}

    def bare() -> None:
        taken["step"].append(loop.seconds(steps, None)[0] / steps * 1e6)

    def logged() -> None:
        whole, inside = loop.seconds(steps, lambda step: ours())
        taken["step with log"].append(whole / steps * 1e6)
        taken["call in step"].append(inside / steps * 1e6)

    def called() -> None:
        taken["call"].append(each(ours, steps))

    def called_plainly() -> None:
        taken["mlflow"].append(each(plain, 50))

    arms = (bare, logged, called, called_plainly)
    loop.seconds(200, lambda step: ours())
    with mlflow.start_run():
        plain()
        for number in range(rounds):
            for place in range(len(arms)):
                arms[(place + number) % len(arms)]()
    finish(spool, "run-hot")
    return taken


def each(call: Callable[[], None], times: int) -> float:
    """Return the microseconds of one call."""
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times * 1e6


def opened(tracking: Tracking, key: str) -> Spool:
    """Open a run, and wait until MLflow has it."""
    spool = tracking.open(key)
    spool.start_run(key, "queued", key, {})
    spool.run_id(key, 60.0)
    return spool


def finish(spool: Spool, key: str) -> None:
    """Close a run and wait until all is delivered."""
    spool.finish_run(key)
    assert spool.drain(), "the queue was not emptied"
    spool.close(over=True)


def emptied(tracking: Tracking, points: int) -> float:
    """Return the points a second at which a full queue empties."""
    spool = opened(tracking, "run-full")
    at = now_ms()
    for step in range(points // 10):
        spool.log_metrics("run-full", [Point(f"m{number}", 0.5, step, at + step) for number in range(10)])
    began = time.perf_counter()
    finish(spool, "run-full")
    return points / (time.perf_counter() - began)


def trials(tracking: Tracking) -> float:
    """Return the trials a second that reach MLflow."""
    table = pa.table({"a": [0.5, 1.5, 2.5, 3.5] * 30, "b": ["x", "y", "x", "z"] * 30, "y": [0.1, 0.2, 0.3, 0.4] * 30})
    schema = schema_for(FeaturesConfig(target="y"), table)
    facts = DataFacts("/data/table.csv", "d" * 32, {name: each.rows for name, each in PARTS.items()}, "f", (), PARTS)
    spool = opened(tracking, "study-trials")
    at = now_ms()
    began = time.perf_counter()
    for number in range(TRIALS):
        key = f"study-trials/{number}"
        points = [Point(f"m{name}", 0.5, epoch, at + epoch) for epoch in range(EPOCHS) for name in range(4)]
        spool.start_run(key, "queued", f"trial {number}", {f"t{each}": "tag" for each in range(12)}, "study-trials")
        spool.log_batch(key, points, {f"p{each}": each for each in range(30)}, {})
        spool.log_datasets(key, facts, schema)
        spool.finish_run(key)
    finish(spool, "study-trials")
    return TRIALS / (time.perf_counter() - began)


def report(taken: dict[str, list[float]], rates: dict[str, float], rounds: int) -> None:
    """Print the table, then the JSON line."""
    middle = {name: statistics.median(values) for name, values in taken.items()}
    table = Table("microseconds", "median", "least to most")
    for name, values in taken.items():
        table.add_row(name, f"{middle[name]:,.1f}", f"{min(values):,.1f} to {max(values):,.1f}")
    console = Console()
    console.print(table)
    rates = {name: round(value, 1) for name, value in rates.items()}
    console.print(f"delivered to SQLite: {rates['points_per_s']:,.0f} points/s, {rates['trials_per_s']:,.1f} trials/s")
    ratios = {
        "log_share_of_step": middle["call in step"] / middle["step"],
        "call_vs_mlflow": middle["call"] / middle["mlflow"],
    }
    line = {
        "benchmark": "tracking",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("mlflow", "torch", "msgspec")},
        "rounds": rounds,
        "results": {"us": {name: [round(value, 2) for value in values] for name, values in taken.items()}, **rates},
        "ratios": {name: round(value, 5) for name, value in ratios.items()},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
