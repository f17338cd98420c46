"""Do 16 trials at once stand up to a fresh MLflow on SQLite?

Question   How many operations fail, and how many go through in a second, when 16 processes open a fresh MLflow SQLite
           file at the same moment and write trials to it; and whether a Study of 16 trials at once loses any.
Ceiling    No error, each run and each step there once, and the operations/s of one process that writes alone.
Method     One operation is one call that MLflow commits: a run is opened, logged to (20 points, 8 parameters and a
           tag in one call) and ended. The processes are forked from one that has MLflow loaded, and start when a pipe
           is closed. Arms, each in a folder of its own: Rayline's store on a fresh file; plain `MlflowClient` on a
           fresh file, as `mlflow.set_tracking_uri("sqlite:///...")` gives it; plain `MlflowClient` on a file whose
           tables one process has made before; one process with Rayline's store, and one with plain MLflow. An
           exception is an error, and so is each operation of a process that could not begin. A process that is not
           done after `LIMIT_S` is killed, and what it still owed counts as errors. Operations/s count from the moment
           that the first process has the store open; how long that takes stands beside. Rounds are interleaved;
           medians. Afterwards the file is read: runs that are finished, and runs with each of their steps once.
           Then the same with a real Study on Ray: 16 workers, 16 trials at once, fresh storage.
Command    python benchmarks/sqlite_trials.py [--quick]

The last line is one JSON object. `ours_vs_one_process` and `ours_vs_plain_prepared` are of operations/s: above 1 is in
Rayline's favour. `errors` of `ours` and of the Study should be 0.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rayline.registry.mlflow_store import MlflowStore
from rayline.registry.store import Point, now_ms

PROCESSES, POINTS, CALLS = 16, 20, 3
LIMIT_S = 90.0
EXPERIMENT = "trials"
Write = Callable[[int], None]


@dataclass
class Outcome:
    """What became of one arm in one round.

    Attributes:
        wanted: operations that should have gone through.
        done: those that did.
        open_seconds: from the start of all processes until one has the store open.
        seconds: from there to the last operation.
        reasons: the first words of errors, each once.
        finished, whole: runs in the file that ended, and of these the ones with each point once.
    """

    wanted: int
    done: int
    open_seconds: float
    seconds: float
    reasons: list[str] = field(default_factory=list)
    finished: int = 0
    whole: int = 0

    @property
    def errors(self) -> int:
        """Operations that failed."""
        return self.wanted - self.done

    @property
    def rate(self) -> float:
        """Operations/s."""
        return self.done / self.seconds if self.seconds else 0.0


def ours(folder: Path) -> Write:
    """Open Rayline's store and return what writes one trial."""
    store = MlflowStore.open(None, folder)

    def write(number: int) -> None:
        run = store.start_run(EXPERIMENT, f"trial {number}", {})
        _done()
        points = [Point("loss", 1.0 / (step + 1), step, now_ms()) for step in range(POINTS)]
        store.log_batch(run, points, {f"p{each}": each for each in range(8)}, {"state": "done"})
        _done()
        store.finish_run(run)
        _done()

    return write


def plain(folder: Path) -> Write:
    """Open plain MLflow and return what writes one trial."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        experiment = found.experiment_id
    else:
        try:
            experiment = client.create_experiment(EXPERIMENT, artifact_location=(folder / "files").as_uri())
        except MlflowException:  # another process was faster
            experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id

    def write(number: int) -> None:
        run = client.create_run(experiment, run_name=f"trial {number}").info.run_id
        _done()
        points = [Metric("loss", 1.0 / (step + 1), now_ms(), step) for step in range(POINTS)]
        params = [Param(f"p{each}", str(each)) for each in range(8)]
        client.log_batch(run, points, params, [RunTag("state", "done")])
        _done()
        client.set_terminated(run)
        _done()

    return write


_out = -1  # of a child: where it tells of each operation


def _done() -> None:
    os.write(_out, f"+{time.perf_counter()}\n".encode())


def together(folder: Path, opened: Callable[[Path], Write], processes: int, trials: int) -> Outcome:
    """Let processes open a store in ``folder`` at the same moment and write ``trials`` each."""
    folder.mkdir(parents=True, exist_ok=True)
    start_read, start_write = os.pipe()
    told_read, told_write = os.pipe()
    children = [
        _child(folder, opened, trials, number, start_read, start_write, told_write) for number in range(processes)
    ]
    os.close(start_read)
    os.close(told_write)
    began = time.perf_counter()
    os.close(start_write)
    text = _read_until(told_read, children, began + LIMIT_S)
    for child in children:
        os.waitpid(child, 0)
    told = {mark: [line[1:] for line in text.split("\n") if line.startswith(mark)] for mark in "o+-"}
    opened_at = min(map(float, told["o"]), default=began)
    seconds = max(map(float, told["+"]), default=opened_at) - opened_at
    outcome = Outcome(processes * trials * CALLS, len(told["+"]), opened_at - began, seconds, sorted(set(told["-"])))
    outcome.finished, outcome.whole = in_file(folder / "mlflow.db")
    return outcome


def _child(
    folder: Path, opened: Callable[[Path], Write], trials: int, number: int, start: int, starter: int, told: int
) -> int:
    global _out
    child = os.fork()
    if child:
        return child
    try:
        os.close(starter)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        _out = told
        os.read(start, 1)
        write = opened(folder)
        os.write(told, f"o{time.perf_counter()}\n".encode())
        for trial in range(trials):
            try:
                write(number * trials + trial)
            except Exception as error:  # noqa: BLE001 - whatever fails is what is counted
                os.write(told, f"-{_reason(error)}\n".encode())
    except BaseException as error:  # noqa: BLE001 - nothing of this process may go on as its parent
        os.write(told, f"-{_reason(error)}\n".encode())
    finally:
        os._exit(0)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:90]}"


def _read_until(told: int, children: list[int], deadline: float) -> str:
    """Return what the children tell until the last has ended; those that are late are killed."""
    import select

    text = b""
    while True:
        left = deadline - time.perf_counter()
        if left <= 0:
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            text += b"-not done in time\n"
            deadline = time.perf_counter() + 10
            continue
        ready, _, _ = select.select([told], [], [], left)
        if ready:
            more = os.read(told, 65536)
            if not more:
                os.close(told)
                return text.decode()
            text += more


def in_file(path: Path) -> tuple[int, int]:
    """Return how many runs a database holds that ended, and how many of them have each point once."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            rows = connection.execute(
                "SELECT runs.run_uuid, COUNT(metrics.step), COUNT(DISTINCT metrics.step) FROM runs LEFT JOIN metrics"
                " ON metrics.run_uuid = runs.run_uuid WHERE runs.status = 'FINISHED' GROUP BY runs.run_uuid"
            ).fetchall()
        except sqlite3.DatabaseError:  # the tables were never made
            return 0, 0
    return len(rows), sum(count == POINTS == steps for _, count, steps in rows)


def study(folder: Path, epochs: int) -> dict[str, Any]:
    """Run a Study of 16 trials at once on fresh storage, and return what MLflow holds of it."""
    import ray

    from rayline import config, flow

    file = folder / "rayline.yaml"
    raw = {
        "name": "wine",
        "data": {"source": "sklearn:wine"},
        "features": {"target": "target"},
        "model": {"hidden": [8]},
        "train": {"epochs": epochs, "patience": 0, "use_gpu": False},
        "tune": {
            "trials": PROCESSES,
            "max_concurrent": PROCESSES,
            "cpus_per_trial": 0.1,
            "scheduler": "none",
            "sampler": "random",
            "space": {"train.learning_rate": {"low": 0.001, "high": 0.1, "log": True}},
        },
    }
    file.write_text(json.dumps(raw))
    settings = config.load(file)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        began = time.perf_counter()
        result = flow.run(settings, until="tune").result("tune")
        seconds = time.perf_counter() - began
    finally:
        ray.shutdown()
    store = MlflowStore.open(None, settings.storage)
    runs = [store.run(run) for run in store.children(result["study_run_id"])]
    whole = sum(
        [step for step, _ in store.history(each.run_id, "valid_loss")] == list(range(1, epochs + 1)) for each in runs
    )
    finished = sum(each.status == "FINISHED" for each in runs)
    return {
        "trials": PROCESSES,
        "runs": len(runs),
        "errors": 3 * PROCESSES - len(runs) - finished - whole,
        "seconds": round(seconds, 1),
    }


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of few trials: about a minute")
    options = parser.parse_args()
    rounds, trials, epochs = (1, 2, 3) if options.quick else (3, 8, 10)
    warnings.filterwarnings("ignore")
    found: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        MlflowStore.open(None, top / "loaded")  # loads all that is to be loaded, before the processes part
        shutil.copytree(top / "loaded", top / "prepared")
        for number in range(rounds):
            for name, outcome in one_round(top, number, trials):
                found.setdefault(name, []).append(outcome)
        studied = study(top, epochs)
    report(found, studied, rounds)
    return 0


def one_round(top: Path, number: int, trials: int) -> list[tuple[str, Outcome]]:
    """Take each arm once, beginning with another one in each round."""
    arms: list[tuple[str, Callable[[Path], Write], int, bool]] = [
        ("ours", ours, PROCESSES, False),
        ("plain", plain, PROCESSES, False),
        ("plain, tables made before", plain, PROCESSES, True),
        ("ours, one process", ours, 1, False),
        ("plain, one process", plain, 1, False),
    ]
    outcomes = []
    for place in range(len(arms)):
        name, opened, processes, prepared = arms[(place + number) % len(arms)]
        folder = top / f"{number}-{place}"
        if prepared:
            shutil.copytree(top / "prepared", folder)
            with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")  # as MLflow leaves a file that it made
        outcomes.append((name, together(folder, opened, processes, trials)))
    return outcomes


def report(found: dict[str, list[Outcome]], studied: dict[str, Any], rounds: int) -> None:
    """Print the table, then the JSON line."""
    table = Table(
        "16 processes on one file", "errors", "seconds to open", "operations/s", "least to most", "runs whole", "why"
    )
    rates = {name: statistics.median(each.rate for each in all_of) for name, all_of in found.items()}
    for name, all_of in sorted(found.items()):
        errors, wanted = sum(each.errors for each in all_of), sum(each.wanted for each in all_of)
        each_rate = [each.rate for each in all_of]
        table.add_row(
            name,
            f"{errors:,} of {wanted:,}",
            f"{statistics.median(each.open_seconds for each in all_of):,.1f}",
            f"{rates[name]:,.1f}",
            f"{min(each_rate):,.1f} to {max(each_rate):,.1f}",
            f"{sum(each.whole for each in all_of):,} of {wanted // CALLS:,}",
            next((reason for each in all_of for reason in each.reasons), ""),
        )
    console = Console(width=150)
    console.print(table)
    console.print(f"Study: {studied['trials']} trials at once in {studied['seconds']} s, {studied['errors']} errors")
    results = {
        name: {
            "operations": sum(each.wanted for each in all_of),
            "errors": sum(each.errors for each in all_of),
            "whole": sum(each.whole for each in all_of),
            "rate": [round(each.rate, 2) for each in all_of],
            "open_seconds": [round(each.open_seconds, 2) for each in all_of],
            "reasons": sorted({reason for each in all_of for reason in each.reasons})[:3],
        }
        for name, all_of in sorted(found.items())
    }
    line = {
        "benchmark": "sqlite_trials",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("mlflow", "sqlalchemy", "ray")},
        "rounds": rounds,
        "results": {**results, "study": studied},
        "ratios": {
            "ours_vs_one_process": round(rates["ours"] / rates["ours, one process"], 3),
            "ours_vs_plain_prepared": round(rates["ours"] / max(rates["plain, tables made before"], 1e-9), 3),
        },
    }
    print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
