"""Does a Study lose or double a trial when its driver, or a worker, is killed at a random moment?

Question   Of so many rounds, each with one SIGKILL at a random moment of a Study: how many trials are lost, how many
           are done twice, and how much longer does the Study take?
Ceiling    0 lost, 0 doubled, in the time of the same Study left alone.
Method     A Study of 8 trials of 10 epochs by TPE and ASHA, in a driver process of its own on a running cluster of two
           CPUs. `driver`: the driver is killed, and the same command is given again. `worker`: one of two workers is
           killed, and nothing is done. Moments are drawn evenly over the time that the trials of the first, whole Study
           took. What counts is the ledger.
Command    python benchmarks/tune_kills.py [--quick]

The last line is one JSON object; its ratios are the time with a kill over that without.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import ray
from rich.console import Console
from rich.table import Table

from rayline.config import Config, DataConfig, FeaturesConfig, ModelConfig, Space, TrainConfig, TuneConfig
from rayline.model import InputLayout
from rayline.training.spec import TrainData, TrainSpec
from rayline.tuning.ledger import events
from rayline.tuning.study import LEDGER, base_data, tune

TRIALS, EPOCHS, ROWS = 8, 10, 20_000
DEADLINE_S = 300.0


def drive(address: str, out: Path) -> None:
    """Be the driver."""
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    chance = np.random.default_rng(7)
    x = chance.normal(size=(ROWS, 8)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    train = TrainConfig(epochs=EPOCHS, batch_size=128, patience=0, use_gpu=False)
    spec = TrainSpec(
        ModelConfig(hidden=(16,)), train, "binary", ("no", "yes"), InputLayout.plain(8), target_mean=0.0, target_std=1.0
    )
    config = Config(
        name="kills",
        data=DataConfig(source="unused.csv"),
        features=FeaturesConfig(target="y"),
        model=spec.model,
        train=train,
        tune=TuneConfig(
            trials=TRIALS, space={"train.learning_rate": Space(low=1e-4, high=1e-1, log=True)}, grace_epochs=3
        ),
    )
    data = TrainData((x[: ROWS // 2], y[: ROWS // 2]), (x[ROWS // 2 :], y[ROWS // 2 :]))
    found = tune(config, base_data(spec, data), out)
    print(json.dumps([trial.number for trial in found.trials if trial.status != "failed"]))
    ray.shutdown()


def start(out: Path) -> subprocess.Popen[str]:
    """Give the command."""
    command = [sys.executable, __file__, "--address", ray.get_runtime_context().gcs_address, "--out", str(out)]
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def round_of(kind: str | None, span: tuple[float, float]) -> dict[str, Any]:
    """Run one Study with one kill between two moments (seconds after its ledger's begin); return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        out, began = Path(folder), time.perf_counter()
        hit = kind is not None
        driver = start(out)
        if kind is not None:
            wait_for(lambda: bool(events(out / LEDGER)), driver)
            time.sleep(random.uniform(*span))
            if kind == "driver":
                driver.kill()
                driver.communicate()
                driver = start(out)
            else:
                hit = kill_worker()
        output, _ = driver.communicate(timeout=DEADLINE_S)
        usable = json.loads(output.splitlines()[-1]) if driver.returncode == 0 else []
        past = events(out / LEDGER)
        ended = Counter(each.number for each in past if each.kind == "ended")
        times = [each.at for each in past]
        return {
            "hit": hit,
            "seconds": time.perf_counter() - began,
            "lost": TRIALS - len(usable),
            "doubled": sum(count - 1 for count in ended.values()),
            "span": (times[1] - times[0], times[-1] - times[0]),
        }


def kill_worker() -> bool:
    """Kill one of the workers that train; False where none does at that moment."""
    ours = [pid for pid, command in children(os.getpid()) if command.startswith("ray::Worker.step")]
    if ours:
        os.kill(random.choice(ours), signal.SIGKILL)
    return bool(ours)


def children(root: int) -> list[tuple[int, str]]:
    """Return all processes below one, with their command lines."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    below = {root}
    while more := {int(pid) for pid, parent, *_ in rows if int(parent) in below} - below:
        below |= more
    return [(int(row[0]), row[2]) for row in rows if int(row[0]) in below and len(row) == 3]


def wait_for(condition: Any, driver: subprocess.Popen[str]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if driver.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the driver did not come to its Study")
        time.sleep(0.02)


def main() -> int:
    """Measure and report, or be the driver."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds of each")
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.address:
        drive(given.address, given.out)
        return 0
    rounds = 2 if given.quick else 20
    random.seed(0)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    alone = [round_of(None, (0.0, 0.0)) for _ in range(2)]
    span = alone[-1]["span"]
    found: dict[str, list[dict[str, Any]]] = {"driver": [], "worker": []}
    for number in range(rounds):
        for kind, rows in found.items():
            rows.append(round_of(kind, span))
            print(f"round {number + 1}, {kind}: {rows[-1]}", file=sys.stderr)
    report(alone, found, rounds)
    ray.shutdown()
    return 0


def report(alone: list[dict[str, Any]], found: dict[str, list[dict[str, Any]]], rounds: int) -> None:
    """Print the table, then the one line of JSON."""
    base = statistics.median(each["seconds"] for each in alone)
    table = Table(title=f"{rounds} rounds each, {TRIALS} trials a round; left alone a Study takes {base:.1f} s")
    for column in ("killed", "times", "trials lost", "trials doubled", "seconds (span)"):
        table.add_column(column, justify="right" if column != "killed" else "left")
    for kind, rows in found.items():
        seconds = [row["seconds"] for row in rows]
        spread = f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
        table.add_row(
            kind,
            str(sum(row["hit"] for row in rows)),
            str(sum(row["lost"] for row in rows)),
            str(sum(row["doubled"] for row in rows)),
            spread,
        )
    Console(width=120).print(table)
    print(
        json.dumps(
            {
                "benchmark": "tune_kills",
                "machine": {"host": socket.gethostname(), "cpus": os.cpu_count(), "platform": platform.platform()},
                "versions": {name: version(name) for name in ("rayline", "ray", "optuna", "torch")},
                "rounds": rounds,
                "results": {"alone": alone, **found},
                "ratios": {
                    f"{kind}_killed_time": round(statistics.median(row["seconds"] for row in rows) / base, 2)
                    for kind, rows in found.items()
                },
            }
        )
    )


if __name__ == "__main__":
    sys.exit(main())
