"""What is lost when processes of a training or a Study are killed at random moments?

Question   A driver, a training worker, a trial's worker or the MLflow server dies by SIGKILL at a moment that chance
           chooses. Is any run or trial lost or doubled, is any step of a metric lost or logged twice, and how much
           time does it cost?
Ceiling    0 lost, 0 doubled; no extra time.
Method     Every round is what a user does: `rayline train` or `rayline tune` as a process of its own on scikit-learn's
           digits. `driver`: killed, then the same command again. `worker`: one of the two processes of a worker group.
           `trial`: one of the Study's workers. `server`: a real `mlflow server`, killed and started again 30 s later;
           the same command once more delivers what waited. Afterwards MLflow is asked: how many runs there are, how
           they ended, and every point of every metric. Extra time is against the median of unbroken runs.
Command    python benchmarks/kills.py [--quick] [--fault driver|worker|trial|server] [--rounds 20]

The last line is one JSON object. Times are only as good as the machine is quiet; the counts do not depend on it.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from rayline.registry.mlflow_store import MlflowStore

EPOCHS = 40
TRIALS = 8
TRIAL_EPOCHS = 12
DOWN_S = 30.0
DEADLINE_S = 300.0
WORKERS = {"worker": "GroupActor", "trial": "Worker"}  # what Ray calls the processes
COMMAND = [str(Path(sys.executable).with_name("rayline"))]


@dataclass
class Losses:
    """What a fault cost in all its rounds. Goal: 0 everywhere, but for the seconds."""

    rounds: int = 0
    killed: int = 0
    runs_lost: int = 0
    runs_doubled: int = 0
    steps_lost: int = 0
    steps_doubled: int = 0
    trials_lost: int = 0
    trials_doubled: int = 0
    extra_s: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """One project that is run again and again, each time with another seed: features are made once."""

    folder: Path
    tracking_uri: str | None = None
    hits: list[str] = field(default_factory=list, compare=False)

    @property
    def storage(self) -> Path:
        return self.folder / ".rayline"

    def command(self, verb: str, seed: int, *more: str) -> list[str]:
        settings = [f"train.seed={seed}", *more]
        return [*COMMAND, verb, str(self.folder / "rayline.yaml"), *(f"--set={each}" for each in settings)]

    def start(self, verb: str, seed: int, *more: str) -> subprocess.Popen[str]:
        log = (self.folder / "log.txt").open("a")
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        return subprocess.Popen(
            self.command(verb, seed, *more), stdout=log, stderr=log, text=True, env=environment, cwd=self.folder
        )

    def run(self, verb: str, seed: int, *more: str) -> float:
        """Run the command to its end. Returns its seconds. Raises ``RuntimeError`` where it failed."""
        began = time.perf_counter()
        self.ended(self.start(verb, seed, *more))
        return time.perf_counter() - began

    def ended(self, process: subprocess.Popen[str]) -> None:
        status = process.wait(timeout=DEADLINE_S)
        if status != 0:
            tail = (self.folder / "log.txt").read_text()[-2000:]
            raise RuntimeError(f"the command ended with {status}:\n{tail}")


def main() -> int:
    """Run the benchmark. Returns the process's exit status: 1 where something was lost or doubled."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds of each fault")
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append", help="only this one")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    found: dict[str, Losses] = {}
    for name in options.fault or FAULTS:
        found[name] = FAULTS[name](rounds, random.Random(f"{name}-{options.seed}"))
        print(f"{name}: {asdict(found[name])}", flush=True)
    report(found)
    return int(any(_anything(each) for each in found.values()))


def killed_driver(rounds: int, chance: random.Random) -> Losses:
    """Kill the driver of a training, and run the same command again."""
    losses = Losses()
    with project() as bench:
        usual = unbroken(bench, "train")
        for seed in range(100, 100 + rounds):
            began = time.perf_counter()
            process = bench.start("train", seed)
            time.sleep(usual * chance.uniform(0.1, 0.95))
            losses.killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            bench.run("train", seed)
            losses.extra_s.append(time.perf_counter() - began - usual)
            check_run(bench, seed, losses)
    return losses


def killed_worker(rounds: int, chance: random.Random) -> Losses:
    """Kill one of two workers of a group; the command goes on by itself."""
    losses = Losses()
    with project() as bench:
        usual = unbroken(bench, "train", "train.num_workers=2")
        span = working(bench, WORKERS["worker"], "train", "train.num_workers=2")
        for seed in range(100, 100 + rounds):
            began = time.perf_counter()
            process = bench.start("train", seed, "train.num_workers=2")
            kill_one(bench, WORKERS["worker"], process, chance.uniform(0.0, 0.95) * span, chance)
            bench.ended(process)
            losses.extra_s.append(time.perf_counter() - began - usual)
            losses.killed = len(bench.hits)
            check_run(bench, seed, losses)
    return losses


def killed_trial(rounds: int, chance: random.Random) -> Losses:
    """Kill the process that works on a trial; the Study goes on by itself."""
    losses = Losses()
    with project() as bench:
        usual = unbroken(bench, "tune")
        span = working(bench, WORKERS["trial"], "tune")
        for seed in range(100, 100 + rounds):
            began = time.perf_counter()
            process = bench.start("tune", seed)
            kill_one(bench, WORKERS["trial"], process, chance.uniform(0.0, 0.95) * span, chance)
            bench.ended(process)
            losses.extra_s.append(time.perf_counter() - began - usual)
            losses.killed = len(bench.hits)
            check_study(bench, seed, losses)
    return losses


def killed_server(rounds: int, chance: random.Random) -> Losses:
    """Kill the tracking server in the middle of a training, and start it again later."""
    losses = Losses()
    with tempfile.TemporaryDirectory(prefix="rayline-mlflow-") as folder, project(server_port := _port()) as bench:
        server = _server(Path(folder), server_port)
        try:
            usual = unbroken(bench, "train")
            for seed in range(100, 100 + rounds):
                process = bench.start("train", seed)
                began = time.perf_counter()
                time.sleep(usual * chance.uniform(0.3, 0.9))
                losses.killed += process.poll() is None
                _end(server)
                down = time.perf_counter()
                process.wait(timeout=DEADLINE_S)
                losses.extra_s.append(time.perf_counter() - began - usual)
                time.sleep(max(0.0, DOWN_S - (time.perf_counter() - down)))
                server = _server(Path(folder), server_port)
                bench.run("train", seed)
                check_run(bench, seed, losses)
        finally:
            _end(server)
    return losses


FAULTS: dict[str, Callable[[int, random.Random], Losses]] = {
    "driver": killed_driver,
    "worker": killed_worker,
    "trial": killed_trial,
    "server": killed_server,
}


def unbroken(bench: Bench, verb: str, *more: str) -> float:
    """Return the median seconds of three runs that nothing happens to, once the features are made."""
    bench.run(verb, 0, *more)
    return statistics.median(bench.run(verb, seed, *more) for seed in (1, 2, 3))


def working(bench: Bench, name: str, verb: str, *more: str) -> float:
    """Return for how many seconds one run that nothing happens to has processes that Ray calls so."""
    process = bench.start(verb, 4, *more)
    await_one(bench, name, process)
    began = time.perf_counter()
    while process.poll() is None and processes(bench, name):
        time.sleep(0.05)
    bench.ended(process)
    return time.perf_counter() - began


def await_one(bench: Bench, name: str, driver: subprocess.Popen[str]) -> None:
    """Wait until there is a process that Ray calls so."""
    deadline = time.monotonic() + DEADLINE_S
    while not processes(bench, name) and driver.poll() is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {name} came")
        time.sleep(0.02)


def kill_one(bench: Bench, name: str, driver: subprocess.Popen[str], after: float, chance: random.Random) -> None:
    """Kill one of the processes that Ray calls so, some seconds after the first of them came."""
    await_one(bench, name, driver)
    time.sleep(after)
    found = processes(bench, name)
    if found and driver.poll() is None:
        os.kill(chance.choice(found), signal.SIGKILL)
        bench.hits.append(name)


def processes(bench: Bench, name: str) -> list[int]:
    """Return the actors of a class on the project's own cluster."""
    head = json.loads((bench.storage / "cluster.json").read_text())["pid"]
    titles: dict[int, str] = {}
    parents: dict[int, int] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                titles[int(place.name)] = (place / "cmdline").read_bytes().decode(errors="replace")
                state = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(place.name)] = int(state[1])

    def is_ours(process: int) -> bool:
        while process in parents and process != head:
            process = parents[process]
        return bool(process == head)

    return [each for each, title in titles.items() if title.startswith(f"ray::{name}") and is_ours(each)]


def check_run(bench: Bench, seed: int, losses: Losses) -> None:
    """Count what MLflow lacks or has twice of one training."""
    losses.rounds += 1
    runs = _runs(bench, seed)
    finished = [run for run in runs if run.info.status == "FINISHED"]
    losses.runs_lost += not finished
    losses.runs_doubled += max(0, len(runs) - 1)
    for run in finished[:1]:
        _check_steps(bench, run.info.run_id, EPOCHS, losses)
    print(f"round {losses.rounds}: {losses}", flush=True)
    if len(finished) != 1 or len(runs) != 1:
        losses.troubles.append(f"seed {seed}: {[(run.info.run_id, run.info.status) for run in runs]}")


def check_study(bench: Bench, seed: int, losses: Losses) -> None:
    """Count what MLflow lacks or has twice of one Study."""
    losses.rounds += 1
    client = _client(bench)
    experiment = client.get_experiment_by_name("digits").experiment_id
    parents = [
        run
        for run in client.search_runs([experiment], "tags.`rayline.kind` = 'study'", max_results=1000)
        if f"seed: {seed}\n" in _text(client, run.info.run_id, "config.yaml")
    ]
    losses.runs_lost += not parents
    losses.runs_doubled += max(0, len(parents) - 1)
    for parent in parents[:1]:
        nested = client.search_runs(
            [experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", max_results=1000
        )
        numbers = Counter(run.data.tags["rayline.trial"] for run in nested)
        losses.trials_lost += TRIALS - len(numbers)
        losses.trials_doubled += sum(numbers.values()) - len(numbers)
        for run in nested:
            _check_steps(bench, run.info.run_id, None, losses)
        print(f"round {losses.rounds}: {losses}", flush=True)
        if parent.info.status != "FINISHED" or len(numbers) != TRIALS:
            losses.troubles.append(f"seed {seed}: {parent.info.status}, {sorted(numbers.elements())}")


def report(found: dict[str, Losses]) -> None:
    """Print the table, then one JSON line."""
    table = Table(title="Killed at random moments")
    for heading in (
        "fault",
        "rounds",
        "killed in time",
        "runs lost",
        "doubled",
        "steps lost",
        "doubled",
        "trials lost",
        "doubled",
    ):
        table.add_column(heading)
    table.add_column("extra s, median (min to max)")
    for name, each in found.items():
        counts = (each.rounds, each.killed, each.runs_lost, each.runs_doubled, each.steps_lost, each.steps_doubled)
        extra = f"{statistics.median(each.extra_s):.1f} ({min(each.extra_s):.1f} to {max(each.extra_s):.1f})"
        table.add_row(name, *map(str, (*counts, each.trials_lost, each.trials_doubled)), extra)
    Console().print(table)
    packages = {name: version(name) for name in ("ray", "torch", "mlflow", "rayline")}
    machine = {"host": socket.gethostname(), "cpus": os.cpu_count(), "python": platform.python_version()}
    results = {name: asdict(each) for name, each in found.items()}
    rounds = max(each.rounds for each in found.values())
    print(
        json.dumps(
            {
                "benchmark": "kills",
                "machine": machine,
                "versions": packages,
                "rounds": rounds,
                "results": results,
                "ratios": {},
            }
        )
    )


@contextmanager
def project(server_port: int | None = None) -> Iterator[Bench]:
    """Give a project on scikit-learn's digits, and stop its cluster afterwards."""
    with tempfile.TemporaryDirectory(prefix="rayline-kills-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        uri = f"http://127.0.0.1:{server_port}" if server_port else None
        values = {
            "name": "digits",
            "data": {"source": "sklearn:digits"},
            "features": {"target": "target"},
            "model": {"hidden": [128, 64]},
            "train": {"epochs": EPOCHS, "batch_size": 8, "patience": 0},
            "tune": {
                "trials": TRIALS,
                "scheduler": "none",
                "space": {
                    "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
                    "train.epochs": {"choose": [TRIAL_EPOCHS]},
                },
            },
            "registry": {"tracking_uri": uri},
        }
        (folder / "rayline.yaml").write_text(yaml.safe_dump(values))
        bench = Bench(folder, uri)
        try:
            yield bench
        finally:
            subprocess.run([*COMMAND, "stop"], check=False, capture_output=True, cwd=folder)


def _anything(losses: Losses) -> bool:
    counts = asdict(losses)
    return any(counts[name] for name in counts if name.endswith(("_lost", "_doubled")))


def _runs(bench: Bench, seed: int) -> list[Any]:
    client = _client(bench)
    experiment = client.get_experiment_by_name("digits")
    if experiment is None:
        return []
    return list(client.search_runs([experiment.experiment_id], f"params.`train.seed` = '{seed}'"))


def _check_steps(bench: Bench, run_id: str, epochs: int | None, losses: Losses) -> None:
    client = _client(bench)
    metrics = [name for name in client.get_run(run_id).data.metrics if name.startswith(("train_", "valid_"))]
    for metric in metrics:
        steps = Counter(point.step for point in client.get_metric_history(run_id, metric))
        expected = set(range(1, (epochs or max(steps)) + 1))
        losses.steps_lost += len(expected - steps.keys())
        losses.steps_doubled += sum(steps.values()) - len(steps)


@cache
def _client(bench: Bench) -> Any:
    # Once for each project: of several stores that one process opens on one SQLite file, later ones read old rows.
    return MlflowStore.open(bench.tracking_uri, bench.storage)._client()


def _text(client: Any, run_id: str, path: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, path, folder)).read_text()


def _server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    place = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("ab") as log:
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # whose processes would outlive it
        server = subprocess.Popen([*command, *place], stdout=log, stderr=log, start_new_session=True, env=environment)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server
        time.sleep(0.1)
    _end(server)
    raise RuntimeError(f"the MLflow server did not start: {(folder / 'server.log').read_text()[-2000:]}")


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
