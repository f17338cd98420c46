"""What does a Study on the same cluster cost a service, and what do the floor and the priority of training save?

Question   p50 and p99 of a service that is asked at a steady rate: alone, during a Study that takes all that is free,
           and during the same Study with a floor (cluster.reserve_cpus), with low priority (cluster.priority: low, the
           default), and with both. And what each of them costs the Study, in epochs per second.
Ceiling    The service alone, at the same rate in the same round.
Method     One Ray on this machine, its workers at niceness 5 as Rayline's own local cluster has them, with two CPUs
           for each of its cores, so that a Study can take more than there is; HAProxy ingress, one replica of one CPU,
           and trials of one CPU that train a 256-128 network, each on one thread, without a pause. Each Study is a
           driver of its own and is measured once its trials have trained their first epochs. A client in a process of
           its own sends one row at fixed times (open loop): a latency counts from the time at which the request was
           due, so that a stall is not hidden; at most 64 wait, and what is due beyond is counted as dropped. The client
           is on the same cores and yields to nobody: its own waits are in the figures. Rounds are interleaved and begin
           with another arm each time; ratios are medians of those within a round.
Command    python benchmarks/side_by_side.py [--quick]

The last line is one JSON object; p99 ratios are to the service alone in the same round, and the nearer to 1 the better.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from rayline.cluster import WORKER_NICENESS
from rayline.config import (
    ClusterConfig,
    Config,
    DataConfig,
    FeaturesConfig,
    ModelConfig,
    ServiceConfig,
    Space,
    TrainConfig,
    TuneConfig,
)
from rayline.model import InputLayout
from rayline.serving.http.ingress import ingress_environment
from rayline.serving.service import deploy
from rayline.serving.traffic.plan import LiveVersion
from rayline.training.spec import TrainData, TrainSpec
from serve_overhead import bundle, spread

ARMS: dict[str, ClusterConfig | None] = {
    "alone": None,
    "study": ClusterConfig(reserve_cpus=0, priority="normal"),
    "floor": ClusterConfig(reserve_cpus=2, priority="normal"),
    "low": ClusterConfig(reserve_cpus=0, priority="low"),
    "both": ClusterConfig(reserve_cpus=2, priority="low"),
}
NAMES = {
    "alone": "the service alone",
    "study": "beside a Study",
    "floor": "... that leaves a floor",
    "low": "... at low priority",
    "both": "... with both",
}
IN_FLIGHT = 64
ROWS, INPUTS = 20_000, 32
START_SECONDS = 180.0
FREE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement: answers per second, latencies in milliseconds, requests lost, and the Study's work meanwhile."""

    rps: float
    p50_ms: float
    p99_ms: float
    failures: int
    dropped: int
    epochs_per_s: float
    trials_at_once: int


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: rounds, seconds of each measurement, requests per second."""

    rounds: int
    seconds: float
    rate: float


FULL = Effort(rounds=3, seconds=12.0, rate=150.0)
QUICK = Effort(rounds=1, seconds=6.0, rate=100.0)


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--port", type=int, default=18390)
    parser.add_argument("--client", nargs=4, metavar=("URL", "BODY", "RATE", "SECONDS"), help=argparse.SUPPRESS)
    parser.add_argument("--study", nargs=3, metavar=("ADDRESS", "OUT", "ARM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        url, body, rate, seconds = options.client
        print(json.dumps(asyncio.run(ask(url, Path(body).read_bytes(), float(rate), float(seconds)))))
        return 0
    if options.study:
        study(options.study[0], Path(options.study[1]), options.study[2])
        return 0
    effort = QUICK if options.quick else FULL
    measured: dict[str, list[Measured]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory(prefix="rayline-bench-") as name, service(Path(name), options.port) as (url, body):
        run_client(url, body, effort.rate, 2.0)  # the first requests find nothing warm
        for number in range(effort.rounds):
            arms = [*ARMS][number % len(ARMS) :] + [*ARMS][: number % len(ARMS)]
            for arm in arms:
                measured[arm].append(one(arm, url, body, Path(name) / f"{number}-{arm}", effort))
    report(measured, effort)
    return 0


@contextmanager
def service(folder: Path, port: int) -> Iterator[tuple[str, Path]]:
    """Bring the service up on a Ray of its own; gives its address and the file of a request's body."""
    made = bundle(folder / "bundle", 1)
    body = folder / "body.json"
    body.write_text(json.dumps({"rows": [dict(made.example[0])]}), encoding="utf-8")
    os.environ.update(ingress_environment("127.0.0.1", port, str(folder), "haproxy") | WORKER_NICENESS)

    import ray
    from ray import serve

    cpus = 2 * (os.cpu_count() or 1)
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        config = ServiceConfig(port=port, num_cpus=1.0, ingress="haproxy")
        live = deploy("one", config, str(folder / "storage"), LiveVersion(1, str(made.path), made.digest))
        yield f"{live.url}/predict", body
        serve.shutdown()
    finally:
        ray.shutdown()


def one(arm: str, url: str, body: Path, out: Path, effort: Effort) -> Measured:
    """Measure the service once, beside the Study of an arm where it has one."""
    if ARMS[arm] is None:
        return result(run_client(url, body, effort.rate, effort.seconds), 0.0, 0)
    with running_study(arm, out) as (log, trials):
        before = len(lines(log))
        found = run_client(url, body, effort.rate, effort.seconds)
        return result(found, (len(lines(log)) - before) / effort.seconds, trials)


def result(found: dict[str, float], epochs: float, trials: int) -> Measured:
    """Return a measurement of what the client found and what the Study did meanwhile."""
    return Measured(
        found["rps"], found["p50_ms"], found["p99_ms"], int(found["failures"]), int(found["dropped"]), epochs, trials
    )


def run_client(url: str, body: Path, rate: float, seconds: float) -> dict[str, float]:
    """Ask from a process of its own."""
    command = [sys.executable, __file__, "--client", url, str(body), str(rate), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds * 4 + 60)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def running_study(arm: str, out: Path) -> Iterator[tuple[Path, int]]:
    """Run a Study in a driver of its own; gives the file with a line for each epoch, and the trials at once."""
    import ray

    out.mkdir(parents=True)
    log = out / "epochs"
    log.touch()
    total = ray.available_resources().get("CPU", 0.0)
    address = ray.get_runtime_context().gcs_address
    with (out / "said").open("wb") as said:
        driver = subprocess.Popen(
            [sys.executable, __file__, "--study", address, str(out), arm],
            stdout=said,
            stderr=said,
            env={**os.environ, "RAY_AUTH_MODE": "token"},
        )
    try:
        yield log, started(driver, log, out)
    finally:
        driver.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            driver.wait(20)
        driver.kill()
        driver.wait()
        deadline = time.monotonic() + FREE_SECONDS
        while ray.available_resources().get("CPU", 0.0) < total and time.monotonic() < deadline:
            time.sleep(0.2)


def started(driver: subprocess.Popen[bytes], log: Path, out: Path) -> int:
    """Wait until the Study's workers all train, and return how many there are: no further one has come for a while."""
    deadline, seen, since = time.monotonic() + START_SECONDS, set[str](), time.monotonic()
    while len(seen) == 0 or time.monotonic() - since < 6.0:
        if driver.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the Study did not start: {(out / 'said').read_text(encoding='utf-8')[-2000:]}")
        now = {line.split()[0] for line in lines(log)}
        if now - seen:
            seen, since = seen | now, time.monotonic()
        time.sleep(0.2)
    return len(seen)


def lines(log: Path) -> list[str]:
    """Return the lines of a Study's file."""
    return log.read_text(encoding="utf-8").splitlines()


def study(address: str, out: Path, arm: str) -> None:
    """Train trials until stopped, and note each epoch."""
    from rayline import cluster
    from rayline.tuning.study import tune

    settings = ARMS[arm]
    assert settings is not None
    cluster.connect(out, address=address)
    spec, data = training(settings)
    config = Config(
        name="side",
        data=DataConfig(source="unused.csv"),
        features=FeaturesConfig(target="y"),
        model=spec.model,
        train=spec.train,
        tune=TuneConfig(
            trials=64,
            sampler="random",
            scheduler="none",
            space={"train.learning_rate": Space(low=1e-4, high=1e-3, log=True)},
        ),
        cluster=settings,
    )

    import ray

    reference = ray.put(data)

    def data_for(each: Config) -> tuple[TrainSpec, object]:
        return noting(spec, each.train, str(out / "epochs")), reference

    tune(config, data_for, out / "study")


def noting(spec: TrainSpec, train: TrainConfig, path: str) -> TrainSpec:
    """Return what a trial trains: its network notes in a file when an epoch begins."""
    return replace(spec, train=train, model=ModelConfig(builder="side_by_side:build", options={"log": path}))


def build(inputs: int, outputs: int, log: str) -> object:
    """Return a network that writes a line, its process, each time it is set to train."""
    from torch import nn

    class Noting(nn.Sequential):  # type: ignore[misc]
        def train(self, mode: bool = True) -> Noting:
            if mode:
                with open(log, "a", encoding="utf-8") as file:
                    file.write(f"{os.getpid()}\n")
            super().train(mode)
            return self

    return Noting(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, outputs))


def training(settings: ClusterConfig) -> tuple[TrainSpec, TrainData]:
    """Return what the trials train, longer than it is measured, and made data to train on."""
    chance = np.random.default_rng(0)
    x = chance.normal(size=(ROWS, INPUTS)).astype(np.float32)
    y = (x[:, 0] + chance.normal(size=ROWS) > 0).astype(np.int64)
    spec = TrainSpec(
        model=ModelConfig(builder="side_by_side:build", options={"log": os.devnull}),
        train=TrainConfig(epochs=100_000, patience=0, batch_size=64, use_gpu=False),
        task="binary",
        classes=("no", "yes"),
        layout=InputLayout.plain(INPUTS),
        target_mean=0.0,
        target_std=1.0,
        cluster=settings,
    )
    cut = ROWS * 9 // 10
    return spec, TrainData((x[:cut], y[:cut]), (x[cut:], y[cut:]))


async def ask(url: str, body: bytes, rate: float, seconds: float) -> dict[str, float]:
    """Send a request at each of its times, and return what came of them."""
    host, _, rest = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    head = f"POST /{rest} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    took: list[float] = []
    lost = {"failures": 0, "dropped": 0}
    under_way = set[asyncio.Task[None]]()

    async def one_request(due: float) -> None:
        try:
            reader, writer = idle.pop() if idle else await asyncio.open_connection(name, int(port))
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            lost["failures"] += answer.split(b" ", 2)[1] != b"200"
            took.append(time.perf_counter() - due)
            idle.append((reader, writer))
        except (OSError, EOFError, StopIteration):
            lost["failures"] += 1

    began = time.perf_counter() + 0.1
    for number in range(int(rate * seconds)):
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        if len(under_way) >= IN_FLIGHT:
            lost["dropped"] += 1
            continue
        task = asyncio.create_task(one_request(due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    while under_way:
        await asyncio.wait(under_way, timeout=30)
    ordered = sorted(took)
    return {
        "rps": len(took) / (time.perf_counter() - began),
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[int(len(ordered) * 0.99)],
        **lost,
    }


def ratio(measured: dict[str, list[Measured]], arm: str, other: str, field: str) -> float:
    """Return the median over rounds of an arm's figure to another's in the same round."""
    pairs = zip(measured[arm], measured[other], strict=True)
    return float(statistics.median(getattr(one, field) / max(getattr(two, field), 1e-9) for one, two in pairs))


def report(measured: dict[str, list[Measured]], effort: Effort) -> None:
    """Print the table, then the one line of JSON."""
    title = f"{effort.rounds} interleaved rounds of {effort.seconds:g} s at {effort.rate:g} requests/s, medians"
    table = Table(title=f"{title} (lowest to highest)")
    for column in ("arm", "trials", "requests/s", "p50 ms", "p99 ms", "lost", "p99 / alone", "epochs/s", "/ study"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, runs in measured.items():
        table.add_row(
            NAMES[arm],
            "/".join(str(run.trials_at_once) for run in runs),
            spread([run.rps for run in runs], "{:,.0f}"),
            spread([run.p50_ms for run in runs], "{:.1f}"),
            spread([run.p99_ms for run in runs], "{:.1f}"),
            str(sum(run.failures + run.dropped for run in runs)),
            f"{ratio(measured, arm, 'alone', 'p99_ms'):.2f}",
            spread([run.epochs_per_s for run in runs], "{:.1f}"),
            f"{ratio(measured, arm, 'study', 'epochs_per_s'):.2f}",
        )
    Console(width=160).print(table)
    ratios = {
        f"{arm}_p99_vs_alone": round(ratio(measured, arm, "alone", "p99_ms"), 3) for arm in ARMS if arm != "alone"
    }
    ratios |= {
        f"{arm}_epochs_vs_study": round(ratio(measured, arm, "study", "epochs_per_s"), 3)
        for arm in ("floor", "low", "both")
    }
    print(
        json.dumps(
            {
                "benchmark": "side_by_side",
                "machine": {"host": socket.gethostname(), "cpus": os.cpu_count(), "platform": platform.platform()},
                "versions": {name: version(name) for name in ("rayline", "ray", "torch", "numpy")},
                "rounds": effort.rounds,
                "results": {arm: [asdict(run) for run in runs] for arm, runs in measured.items()},
                "ratios": ratios,
            }
        )
    )


if __name__ == "__main__":
    sys.exit(main())
