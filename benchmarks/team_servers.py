"""What does a team's tracking cost: MLflow's server over PostgreSQL and S3?

Question   Operations/s of MLflow's server over PostgreSQL with 1 and with 16 writers at once, errors (goal 0), and the
           CPU time that an operation takes in the server and in PostgreSQL; and how many requests to S3 each step of a
           flow makes with `storage: s3://...`.
Ceiling    None: `sqlite_trials.py` has the same operations on an embedded SQLite file.
Method     PostgreSQL from Debian's package, waiting for its disk at each commit; moto's S3 server; `mlflow server` with
           two workers, as `cluster/mlflow-server.sh` starts it. Operations are those of `sqlite_trials.py`, by
           Rayline's store, from threads with a store of their own. Requests to S3 are counted in the server's own log
           while `rayline register` runs on scikit-learn's breast cancer table, step by step.
Command    make test-services once, then
           PYTHONPATH=src .venv-services/bin/python benchmarks/team_servers.py [--quick]

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from rayline.registry.mlflow_store import MlflowStore
from rayline.registry.store import Point, now_ms
from team_services import Process, mlflow_server, postgresql, s3
from units import below

STEPS = ("features", "train", "evaluate", "register")


def written(uri: str, folder: Path, writers: int, trials: int) -> dict[str, float]:
    """Write trials from threads, and return operations/s and errors."""
    errors: list[str] = []
    done = [0] * writers
    ready = threading.Barrier(writers + 1)

    def run(place: int) -> None:
        store = MlflowStore.open(uri, folder)
        ready.wait()
        for number in range(trials):
            try:
                run = store.start_run("trials", f"trial {place} {number}", {})
                points = [Point("loss", 1.0 / (step + 1), step, now_ms()) for step in range(20)]
                store.log_batch(run, points, {f"p{each}": each for each in range(8)}, {"state": "done"})
                store.finish_run(run)
                done[place] += 3
            except Exception as error:  # noqa: BLE001 - whatever fails is what is counted
                errors.append(str(error))

    threads = [threading.Thread(target=run, args=(place,)) for place in range(writers)]
    for each in threads:
        each.start()
    ready.wait()
    began = time.perf_counter()
    for each in threads:
        each.join()
    seconds = time.perf_counter() - began
    return {"operations": sum(done), "errors": 3 * len(errors), "operations_per_s": sum(done) / seconds}


def cpu_below(root: int) -> float:
    """Return the CPU seconds so far of a process and of all below it."""
    return sum(seconds for _, seconds in below(root))


def postmaster(uri: str) -> int:
    """Return the process id of the PostgreSQL at a URI."""
    mark = f"port={uri.rpartition(':')[2].partition('/')[0]}"
    found = subprocess.run(["pgrep", "-f", f"postgres -D .*{mark}"], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


def stored(server: Process, log: Path, bucket: Any, folder: Path) -> dict[str, dict[str, int]]:
    """Run a flow step by step on S3, and return the requests of each step by their kind."""
    from rayline import cluster, config, flow
    from rayline.storage import folder_of

    os.environ.update({**bucket.env, "RAYLINE_SCRATCH": str(folder / "scratch")})
    file = folder / "rayline.yaml"
    raw = {
        "name": "cancer",
        "data": {"source": "sklearn:breast_cancer"},
        "features": {"target": "target"},
        "train": {"epochs": 5, "patience": 0, "use_gpu": False},
        "storage": f"s3://{bucket.name}/flow",
        "registry": {"tracking_uri": f"http://127.0.0.1:{server.port}"},
    }
    file.write_text(json.dumps(raw))
    settings = config.load(file)
    found = {}
    try:
        for step in STEPS:
            before = len(log.read_text())
            flow.run(settings, until=step)  # type: ignore[arg-type]
            said = re.findall(rf'"(GET|PUT|POST|HEAD|DELETE) /{bucket.name}\S*flow', log.read_text()[before:])
            found[step] = {kind: said.count(kind) for kind in sorted(set(said))}
    finally:
        cluster.stop(folder_of(settings.storage))
    return found


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer trials: about a minute")
    options = parser.parse_args()
    trials = 5 if options.quick else 40
    warnings.filterwarnings("ignore")
    rates: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary, postgresql(durable=True) as database:
        folder = Path(temporary)
        with s3(folder) as bucket:
            server = mlflow_server(folder, database, f"s3://{bucket.name}/mlflow", bucket.env, workers=2)
            server.start()
            try:
                roots = server.pid, postmaster(database)
                uri = f"http://127.0.0.1:{server.port}"
                for writers in (1, 16):
                    before = [cpu_below(root) for root in roots]
                    told = written(uri, folder, writers, trials)
                    spent = [cpu_below(root) for root in roots]
                    told["server_ms"] = (spent[0] - before[0]) / max(1, told["operations"]) * 1e3
                    told["postgresql_ms"] = (spent[1] - before[1]) / max(1, told["operations"]) * 1e3
                    rates[str(writers)] = told
                counted = stored(server, folder / "s3.log", bucket, folder)
            finally:
                server.kill()
    report(rates, counted)
    return 0


def report(rates: dict[str, dict[str, float]], counted: dict[str, dict[str, int]]) -> None:
    """Print the tables, then the JSON line."""
    console = Console()
    table = Table("writers", "errors", "operations/s", "ms of CPU, server", "ms of CPU, PostgreSQL")
    for writers, told in rates.items():
        numbers = (told["operations_per_s"], told["server_ms"], told["postgresql_ms"])
        table.add_row(writers, f"{told['errors']:,.0f}", *(f"{each:,.1f}" for each in numbers))
    console.print(table)
    table = Table("step", "requests to S3")
    for step, kinds in counted.items():
        table.add_row(step, ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none")
    console.print(table)
    line = {
        "benchmark": "team_servers",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("mlflow", "psycopg2-binary", "moto", "ray")},
        "rounds": 1,
        "results": {
            "writers": {name: {key: round(value, 2) for key, value in told.items()} for name, told in rates.items()},
            "s3_requests": counted,
        },
        "ratios": {},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
