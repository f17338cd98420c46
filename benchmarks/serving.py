"""What does a Rayline service give beside bare Ray Serve, and beside the servers that people would use otherwise?

Question   Requests per second, p50 and p99 of Rayline with one version, with 90/10 over two, with every request
           mirrored to a second version, and with capture off; against a bare Serve deployment behind the same ingress,
           and against FastAPI on uvicorn, LitServe, BentoML and MLflow's server.
Ceiling    1.0 of bare Serve, written as one would by hand (see serve_overhead.py): it checks no column, counts nothing
           and remembers nothing. Of the peers, the fastest at 16 connections and more.
Method     One Ray on this machine, HAProxy ingress, one replica each; the peers listen themselves, one process each
           (LitServe two), and pay no ingress. All answer by the same predictor on the same bundle (real rows of
           scikit-learn's breast cancer set, a 64-32 network), by the same JSON body, but for MLflow's server, whose
           body names the same rows otherwise. wrk sends 1 or 32 rows a request over 1, 16 and 64 connections that it
           keeps. Rounds are interleaved and begin with another arm each time; ratios are medians of those within a
           round. Rayline runs with its defaults, capture included; one arm is without.
Command    python benchmarks/serving.py [--quick]    after `make bench-peers`; it says which peers are missing

The last line is one JSON object; ratios above 1 are in Rayline's favour (throughput, single rows, 16 connections and
more; capture_vs_no_capture is what capture leaves).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from rayline.config import CaptureConfig, ServiceConfig
from rayline.serving.http.ingress import ingress_environment
from rayline.serving.service import deploy
from rayline.serving.traffic.plan import LiveVersion, Mirror
from serve_overhead import SCRIPT, Bare, Measured, bundle, spread, wrk

HERE = Path(__file__).resolve().parent
PEERS_PYTHON = HERE.parent / ".venv-peers" / "bin" / "python"
PEERS = {
    "fastapi": "FastAPI + uvicorn",
    "litserve": "LitServe",
    "bentoml": "BentoML",
    "mlflow": "MLflow's server",
}
OURS = {
    "bare": "bare Serve",
    "one": "Rayline, one version",
    "split": "Rayline, 90/10",
    "shadow": "Rayline, all mirrored",
    "no_capture": "Rayline, without capture",
}
READY_SECONDS = 120.0
ROWS = (1, 32)
BUSY = 16


@dataclass(frozen=True, slots=True)
class Arm:
    """One server: its name, address and the key of the rows in its body."""

    name: str
    url: str
    key: str = "rows"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    rounds: int
    seconds: int
    connections: tuple[int, ...]


FULL = Effort(rounds=3, seconds=2, connections=(1, 16, 64))
QUICK = Effort(rounds=1, seconds=1, connections=(1, 16))
Cell = tuple[str, int, int]


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round: about a minute")
    parser.add_argument("--port", type=int, default=18290)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: `apt-get install wrk`.", file=sys.stderr)
        return 3
    effort = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="rayline-bench-") as name, ExitStack() as running:
        folder = Path(name)
        bundles = [bundle(folder / f"bundle-{seed}", seed) for seed in (1, 2)]
        arms = [
            *running.enter_context(peers(folder, bundles[0], options.port + 1)),
            *running.enter_context(services(folder, bundles, options.port)),
        ]
        arms = [arm for arm in arms if answers(arm, folder, bundles[0])]
        measured = measure(arms, folder, effort)
    report(measured, [arm.name for arm in arms], effort)
    return 0


@contextmanager
def services(folder: Path, bundles: Sequence[Any], port: int) -> Iterator[list[Arm]]:
    """Bring bare Serve and Rayline's arms up on one Ray of their own."""
    first, second = (LiveVersion(n, str(each.path), each.digest) for n, each in enumerate(bundles, start=1))
    os.environ.update(ingress_environment("127.0.0.1", port, str(folder), "haproxy"))

    import ray
    from ray import serve
    from ray.serve.schema import LoggingConfig

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        config, storage = ServiceConfig(port=port, num_cpus=0.5, ingress="haproxy"), str(folder / "storage")
        deploy("one", config, storage, first)
        deploy("no_capture", without_capture(config), storage, first)
        split = deploy("split", config, storage, first)
        split.load(second)
        split.set_weights(stable=1, weights={1: 90, 2: 10})
        if mirrors():
            shadow = deploy("shadow", config, storage, first)
            shadow.load(second)
            shadow.set_mirror(Mirror(2, 100))
        bare = serve.deployment(
            Bare,
            name="bare",
            ray_actor_options={"num_cpus": 0.5},
            max_ongoing_requests=512,
            logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
        )
        serve.run(bare.bind(first.path), name="bare", route_prefix="/bare")
        names = [name for name in OURS if name != "shadow" or mirrors()]
        yield [Arm(name, f"http://127.0.0.1:{port}/{name}{'' if name == 'bare' else '/predict'}") for name in names]
        serve.shutdown()
    finally:
        ray.shutdown()


def without_capture(config: ServiceConfig) -> ServiceConfig:
    """Return the same settings without capture."""
    return msgspec.structs.replace(config, capture=CaptureConfig(enabled=False))


def mirrors() -> bool:
    """Tell whether this Rayline can mirror requests."""
    from rayline.serving.service import Service

    return hasattr(Service, "set_mirror")


@contextmanager
def peers(folder: Path, model: Any, port: int) -> Iterator[list[Arm]]:
    """Start the peers that are installed; each listens on a port of its own."""
    python = str(PEERS_PYTHON) if PEERS_PYTHON.exists() else sys.executable
    environment = {
        **os.environ,
        "BUNDLE": str(model.path),
        "PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), str(HERE / "peers")]),
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
    }
    started, arms = [], []
    try:
        for place, name in enumerate(PEERS):
            log = (folder / f"{name}.log").open("wb")
            command = [python, str(HERE / "peers" / f"{name}_server.py"), str(port + place)]
            started.append(
                subprocess.Popen(
                    command, env=environment, stdout=log, stderr=log, cwd=HERE / "peers", start_new_session=True
                )
            )
            path, key = ("invocations", "dataframe_records") if name == "mlflow" else ("predict", "rows")
            arms.append(Arm(name, f"http://127.0.0.1:{port + place}/{path}", key))
        yield arms
    finally:
        for process in started:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a peer and the processes that it started, which are a session of their own."""
    for signal in (15, 9):
        try:
            os.killpg(process.pid, signal)
            process.wait(timeout=5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def answers(arm: Arm, folder: Path, model: Any) -> bool:
    """Write an arm's bodies, and wait until it answers; tell whether it does, as a peer may not be installed."""
    for rows in ROWS:
        body = {arm.key: [dict(model.example[0])] * rows}
        body_of(arm, folder, rows).write_text(json.dumps(body), encoding="utf-8")
    request = urllib.request.Request(
        arm.url, body_of(arm, folder, 1).read_bytes(), {"content-type": "application/json"}
    )
    log = folder / f"{arm.name}.log"
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                assert "predictions" in json.load(reply)
                return True
        except (OSError, urllib.error.URLError):
            said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            if "ModuleNotFoundError" in said:
                print(f"missing: {PEERS[arm.name]} ({said.strip().splitlines()[-1]}); run `make bench-peers`.")
                return False
            time.sleep(0.2)
    print(f"missing: {arm.name} does not answer on {arm.url}.")
    return False


def body_of(arm: Arm, folder: Path, rows: int) -> Path:
    """Return the file of an arm's body of so many rows."""
    return folder / f"{arm.key}-{rows}.json"


def measure(arms: Sequence[Arm], folder: Path, effort: Effort) -> dict[Cell, list[Measured]]:
    """Run all arms in every round, each round in another order."""
    script = folder / "post.lua"
    script.write_text(SCRIPT, encoding="utf-8")
    for arm in arms:
        wrk(arm.url, body_of(arm, folder, 1), script, 8, 1)  # warm
    found: dict[Cell, list[Measured]] = {}
    for turn in range(effort.rounds):
        first = turn * 2 % len(arms)
        for rows in ROWS:
            for count in effort.connections:
                for arm in (*arms[first:], *arms[:first]):
                    run = wrk(arm.url, body_of(arm, folder, rows), script, count, effort.seconds)
                    found.setdefault((arm.name, rows, count), []).append(run)
    return found


def ratio(measured: dict[Cell, list[Measured]], arm: str, other: str, rows: int, connections: int) -> float | None:
    """Return the median over rounds of one arm's throughput over another's in the same round."""
    mine, theirs = measured.get((arm, rows, connections)), measured.get((other, rows, connections))
    if not mine or not theirs:
        return None
    found = [one.rps / two.rps for one, two in zip(mine, theirs, strict=True) if two.rps]
    return statistics.median(found) if found else None


def lowest(measured: dict[Cell, list[Measured]], arm: str, other: str, effort: Effort) -> float | None:
    """Return the lowest ratio at 16 connections and more, with single rows."""
    found = [ratio(measured, arm, other, 1, count) for count in effort.connections if count >= BUSY]
    known = [each for each in found if each is not None]
    return round(min(known), 3) if known else None


def report(measured: dict[Cell, list[Measured]], names: Sequence[str], effort: Effort) -> None:
    """Print the table, then the one line of JSON."""
    title = f"Serving: {effort.rounds} interleaved rounds of {effort.seconds} s, medians (lowest to highest)"
    table = Table(title=title)
    for column in ("server", "rows", "connections", "requests/s", "p50 ms", "p99 ms", "failures", "rps / bare"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for rows in ROWS:
        for count in effort.connections:
            for name in names:
                runs = measured[name, rows, count]
                bare = ratio(measured, name, "bare", rows, count)
                table.add_row(
                    {**OURS, **PEERS}[name],
                    str(rows),
                    str(count),
                    spread([run.rps for run in runs], "{:,.0f}"),
                    spread([run.p50_ms for run in runs], "{:.2f}"),
                    spread([run.p99_ms for run in runs], "{:.2f}"),
                    str(sum(run.failures for run in runs)),
                    f"{bare:.2f}" if bare is not None else "",
                )
            table.add_section()
    Console(width=150).print(table)
    against = [found for name in PEERS if (found := lowest(measured, "one", name, effort)) is not None]
    ratios = {
        "one_version_vs_bare_serve": lowest(measured, "one", "bare", effort),
        "split_vs_bare_serve": lowest(measured, "split", "bare", effort),
        "shadow_vs_bare_serve": lowest(measured, "shadow", "bare", effort),
        "capture_vs_no_capture": lowest(measured, "one", "no_capture", effort),
        "vs_best_peer": min(against) if against else None,
    }
    line = {
        "benchmark": "serving",
        "machine": {"host": socket.gethostname(), "cpus": os.cpu_count(), "platform": platform.platform()},
        "versions": {name: version(name) for name in ("rayline", "ray", "numpy", "msgspec", "uvicorn", "fastapi")},
        "rounds": effort.rounds,
        "results": {
            f"{name}_rows{rows}_c{count}": [asdict(run) for run in runs]
            for (name, rows, count), runs in measured.items()
        },
        "ratios": ratios,
        "missing": [title for name, title in {**OURS, **PEERS}.items() if name not in names],
        "failures": sum(run.failures for runs in measured.values() for run in runs),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
