"""What does one unit of each kind of work cost in CPU time?

Question   Rows per CPU second of fitting and applying features, and of training; CPU milliseconds of a Study's driver
           for one trial; CPU milliseconds of a replica, and of HAProxy before it, for one request.
Ceiling    None is claimed here: `features.py`, `train.py`, `tune.py` and `serving.py` compare each with others. These
           figures say how many cores a given load takes, for `cluster/SCALING.md`.
Method     CPU time of the processes that do the work, from the kernel, so that a busy machine changes little. Features
           are the table of `features.py`; training is the ready-made network (30 inputs, hidden 64 and 32, batches of
           1,024) in one thread; the Study has trials of one epoch over 400 rows, its driver's whole process is counted,
           MLflow on SQLite included. Requests are of one row and of 32 rows, over eight connections, to one replica
           behind HAProxy; what a second version at 10 % adds is in them. Medians of the rounds.
Command    python benchmarks/units.py [--quick]

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

CONNECTIONS, PORT = 8, 22680


def features(rows: int, rounds: int) -> float:
    """Return the rows that a CPU second fits and transforms."""
    from features import made, rayline_arm

    work = rayline_arm(made(rows))
    work()  # compiles the kernels
    return rows / statistics.median(cpu(work) for _ in range(rounds))


def training(rows: int, rounds: int) -> float:
    """Return the rows that a CPU second trains on."""
    from rayline.config import ModelConfig
    from rayline.training.spec import TrainData
    from training_examples import fit_here, spec_of

    chance = np.random.default_rng(7)
    x = chance.normal(size=(rows, 30)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    data = TrainData(train=(x, y), valid=(x[:1024], y[:1024]))
    model = ModelConfig(hidden=(64, 32))

    def run(epochs: int) -> float:
        spec = spec_of(inputs=30, model=model, epochs=epochs, batch_size=1024, patience=0)
        with tempfile.TemporaryDirectory() as folder:
            return cpu(lambda: fit_here(spec, data, Path(folder)))

    run(1)
    return rows / statistics.median((run(6) - run(2)) / 4 for _ in range(rounds))


def study(trials: int, folder: Path) -> float:
    """Return the CPU milliseconds of the driver that one more trial takes. Ray is connected."""
    from rayline import config, flow

    def run(count: int) -> float:
        home = folder / f"study-{count}"
        home.mkdir()
        raw = {
            "name": "wine",
            "data": {"source": "sklearn:breast_cancer"},
            "features": {"target": "target"},
            "model": {"hidden": [8]},
            "train": {"epochs": 1, "use_gpu": False},
            "tune": {
                "trials": count,
                "max_concurrent": 2,
                "cpus_per_trial": 0.5,
                "scheduler": "none",
                "sampler": "random",
                "space": {"train.learning_rate": {"low": 0.001, "high": 0.1, "log": True}},
            },
        }
        (home / "rayline.yaml").write_text(json.dumps(raw))
        return cpu(lambda: flow.run(config.load(home / "rayline.yaml"), until="tune"))

    run(2)  # loads all that is to be loaded
    return (run(trials + 4) - run(4)) / trials * 1e3


def requests(count: int, rounds: int, folder: Path) -> dict[str, float]:
    """Return the CPU milliseconds of a replica and of HAProxy for one request of 1 row, and of 32. Ray is connected."""
    from ray import serve

    from rayline.config import ServiceConfig
    from rayline.serving.service import deploy
    from rayline.serving.traffic.plan import LiveVersion
    from registry_examples import make_bundle, real_table

    bundles = [make_bundle(folder / "bundles" / str(seed), real_table("binary"), seed=seed) for seed in (1, 2)]
    live = [LiveVersion(place, str(each.path), each.digest) for place, each in enumerate(bundles, start=1)]
    config = ServiceConfig(port=PORT, num_cpus=0.4, ingress="haproxy")
    service = deploy("units", config, str(folder / "storage"), live[0])
    service.load(live[1])
    service.set_weights(stable=1, weights={1: 90, 2: 10})
    found: dict[str, float] = {}
    for rows in (1, 32):
        body = json.dumps({"rows": [dict(bundles[0].example[0])] * rows}).encode()
        asked(body, count // 10)
        taken: dict[str, list[float]] = {"replica": [], "haproxy": []}
        for _ in range(rounds):
            before = {name: spent(name) for name in taken}
            asked(body, count)
            for name, values in taken.items():
                values.append((spent(name) - before[name]) / count * 1e3)
        found |= {f"{name}_ms_{rows}": statistics.median(values) for name, values in taken.items()}
    serve.shutdown()
    return found


def asked(body: bytes, count: int) -> None:
    """Send so many requests over eight connections; every one must be answered."""
    failures: list[int] = []

    def run() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        for _ in range(count // CONNECTIONS):
            connection.request("POST", "/units/predict", body, {"content-type": "application/json"})
            reply = connection.getresponse()
            reply.read()
            if reply.status != 200:
                failures.append(reply.status)
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(CONNECTIONS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures, f"{len(failures)} requests failed: {failures[:3]}"


def spent(what: str) -> float:
    """Return the CPU seconds so far of the replica's process, or of HAProxy's, below this one."""
    mark = {"replica": "ray::ServeReplica:units", "haproxy": "haproxy"}[what]
    return sum(seconds for words, seconds in below(os.getpid()) if mark in words)


def below(root: int) -> list[tuple[str, float]]:
    """Return the command line and the CPU seconds so far of a process and of all below it."""
    told: dict[int, tuple[int, str, float]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            after = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        told[int(folder.name)] = int(after[1]), words, (int(after[11]) + int(after[12])) / os.sysconf("SC_CLK_TCK")
    mine: set[int] = set()
    more = {root}
    while more:
        mine |= more
        more = {pid for pid, (parent, _, _) in told.items() if parent in mine} - mine
    return [told[pid][1:] for pid in mine if pid in told]


def cpu(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of this process that a call takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds: about a minute")
    options = parser.parse_args()
    rows, rounds, trials, count = (200_000, 3, 12, 1_600) if options.quick else (1_000_000, 5, 40, 8_000)
    warnings.filterwarnings("ignore")
    found = {"features_rows_per_cpu_s": features(rows, rounds), "training_rows_per_cpu_s": training(rows // 4, rounds)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        from rayline.serving.http.ingress import ingress_environment

        os.environ.update(ingress_environment("127.0.0.1", PORT, temporary, "haproxy"))
        import ray

        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        try:
            found |= requests(count, rounds, folder)
            found["driver_ms_per_trial"] = study(trials, folder)
        finally:
            ray.shutdown()
    report(found, rounds)
    return 0


def report(found: dict[str, float], rounds: int) -> None:
    """Print the table, then the JSON line."""
    table = Table("unit", "cost")
    for name, value in found.items():
        table.add_row(name.replace("_", " "), f"{value:,.3f}" if value < 100 else f"{value:,.0f}")
    Console().print(table)
    line = {
        "benchmark": "units",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("ray", "torch", "numpy", "mlflow")},
        "rounds": rounds,
        "results": {name: round(value, 4) for name, value in found.items()},
        "ratios": {},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
