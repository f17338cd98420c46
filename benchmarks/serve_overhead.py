"""What do versions, weights, counts and feedback cost over a bare Ray Serve deployment of the same model?

Question   Requests per second and p99 latency of a Rayline service with one version, and with a 90/10 split over
           two, against (a) a bare single-version Serve deployment of the same network behind the same ingress.
Ceiling    1.0: the bare deployment, written as one would by hand: `async def __call__`, msgspec, the same predictor,
           one BLAS thread, no access log. It checks no column, counts nothing and remembers nothing.
Method     One Ray on this machine, HAProxy ingress, one replica each, real rows of scikit-learn's breast cancer set,
           a 64-32 network. wrk sends one row per request over keep-alive connections, at 1 and at 16 at a time. Rounds
           are interleaved and begin with another arm each time; ratios are medians of the ratios within a round.
Command    python benchmarks/serve_overhead.py [--quick]

The last line is one JSON object; throughput ratios above 1 and p99 ratios below 1 are in Rayline's favour.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rayline.config import DataConfig, FeaturesConfig, ModelConfig, ServiceConfig
from rayline.features.feature_set import FeatureSet
from rayline.features.schemas.inference import infer
from rayline.features.sources import read_table
from rayline.registry.bundle import Bundle, write_bundle
from rayline.serving.http.ingress import ingress_environment
from rayline.serving.service import deploy
from rayline.serving.traffic.plan import LiveVersion

HIDDEN = (64, 32)
ARMS = ("bare", "one", "split")
CONNECTIONS = (1, 16)
WRK_LINE = re.compile(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)")
SCRIPT = """
local file = io.open(os.getenv("BODY"), "r")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["content-type"] = "application/json"
file:close()
function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  print(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
end
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of wrk: requests per second, latencies in milliseconds, requests that failed."""

    rps: float
    p50_ms: float
    p99_ms: float
    failures: int


class Bare:
    """The deployment to compare with."""

    def __init__(self, path: str) -> None:
        from threadpoolctl import threadpool_limits

        threadpool_limits(limits=1)
        self.predictor = Bundle.load(Path(path)).predictor()

    async def __call__(self, request: Any) -> Any:
        import msgspec
        from starlette.responses import Response

        rows = msgspec.json.decode(await request.body())["rows"]
        records = self.predictor.predict(rows).records()
        return Response(msgspec.json.encode({"predictions": records}), media_type="application/json")


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: under a minute")
    parser.add_argument("--port", type=int, default=18190)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: `apt-get install wrk`.", file=sys.stderr)
        return 3
    rounds, seconds = (3, 1) if options.quick else (9, 5)
    with tempfile.TemporaryDirectory(prefix="rayline-bench-") as folder, services(Path(folder), options.port) as body:
        measured = measure(Path(folder), body, options.port, rounds, seconds)
    report(measured, rounds, seconds)
    return 0


@contextmanager
def services(folder: Path, port: int) -> Iterator[Path]:
    """Bring all three arms up on one Ray of their own; gives the file of the request's body."""
    bundles = [bundle(folder / f"bundle-{seed}", seed) for seed in (1, 2)]
    first, second = (LiveVersion(n, str(each.path), each.digest) for n, each in enumerate(bundles, start=1))
    body = folder / "body.json"
    body.write_text(json.dumps({"rows": [dict(bundles[0].example[0])]}), encoding="utf-8")
    os.environ.update(ingress_environment("127.0.0.1", port, str(folder), "haproxy"))

    import ray
    from ray import serve
    from ray.serve.schema import LoggingConfig

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        config = ServiceConfig(port=port, num_cpus=0.5, ingress="haproxy")
        deploy("one", config, str(folder / "storage"), first)
        split = deploy("split", config, str(folder / "storage"), first)
        split.load(second)
        split.set_weights(stable=1, weights={1: 90, 2: 10})
        bare = serve.deployment(
            Bare,
            name="bare",
            ray_actor_options={"num_cpus": 0.5},
            max_ongoing_requests=512,
            logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
        )
        serve.run(bare.bind(first.path), name="bare", route_prefix="/bare")
        yield body
        serve.shutdown()
    finally:
        ray.shutdown()


def bundle(folder: Path, seed: int) -> Bundle:
    """Write an untrained network over the real set's fitted features: its cost does not depend on its weights."""
    from safetensors.numpy import save_file

    table = read_table(DataConfig(source="sklearn:breast_cancer"))
    features = FeatureSet.from_config(FeaturesConfig(target="target"), infer(table, "target").schema).fit(table)
    checkpoint = folder.with_suffix(".checkpoint")
    checkpoint.mkdir()
    random, sizes = np.random.default_rng(seed), (features.width, *HIDDEN, 1)
    tensors = {}
    for index, (before, after) in enumerate(itertools.pairwise(sizes)):
        tensors[f"layers.{index}.weight"] = random.normal(0, before**-0.5, (after, before)).astype(np.float32)
        tensors[f"layers.{index}.bias"] = np.zeros(after, dtype=np.float32)
    save_file(tensors, checkpoint / "model.safetensors")
    return write_bundle(
        folder,
        name="overhead",
        features=features,
        model=ModelConfig(hidden=HIDDEN),
        checkpoint=checkpoint,
        lineage={},
        reference={},
        example=table.select(list(features.input_columns)).slice(0, 1).to_pylist(),
    )


def measure(folder: Path, body: Path, port: int, rounds: int, seconds: int) -> dict[tuple[str, int], list[Measured]]:
    """Run all arms in every round, each round in another order."""
    script = folder / "post.lua"
    script.write_text(SCRIPT, encoding="utf-8")
    urls = {arm: f"http://127.0.0.1:{port}/{arm}{'' if arm == 'bare' else '/predict'}" for arm in ARMS}
    for url in urls.values():
        wrk(url, body, script, 8, 1)  # warm
    found: dict[tuple[str, int], list[Measured]] = {(arm, count): [] for arm in ARMS for count in CONNECTIONS}
    for turn in range(rounds):
        order = ARMS[turn % len(ARMS) :] + ARMS[: turn % len(ARMS)]
        for count in CONNECTIONS:
            for arm in order:
                found[arm, count].append(wrk(urls[arm], body, script, count, seconds))
    return found


def wrk(url: str, body: Path, script: Path, connections: int, seconds: int) -> Measured:
    """Load one address."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "BODY": str(body)})
    match = WRK_LINE.search(done.stdout)
    if match is None:
        raise RuntimeError(f"wrk said nothing of use: {done.stdout}{done.stderr}")
    requests, micros, p50, p99, failed = map(int, match.groups())
    return Measured(requests / (micros / 1e6), p50 / 1e3, p99 / 1e3, failed)


def ratio(measured: dict[tuple[str, int], list[Measured]], arm: str, field: str, connections: int) -> float:
    """Return the median over rounds of an arm's figure over the bare one's in the same round."""
    pairs = zip(measured[arm, connections], measured["bare", connections], strict=True)
    return float(statistics.median(getattr(mine, field) / getattr(bare, field) for mine, bare in pairs))


def report(measured: dict[tuple[str, int], list[Measured]], rounds: int, seconds: int) -> None:
    """Print the table, then the one line of JSON."""
    table = Table(title=f"Serve overhead: {rounds} interleaved rounds of {seconds} s, medians (lowest to highest)")
    for column in ("arm", "connections", "requests/s", "p50 ms", "p99 ms", "failures", "rps / bare", "p99 / bare"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    names = {"bare": "(a) bare Serve", "one": "(b) Rayline, one version", "split": "(c) Rayline, 90/10"}
    for connections in CONNECTIONS:
        for arm in ARMS:
            runs = measured[arm, connections]
            table.add_row(
                names[arm],
                str(connections),
                spread([run.rps for run in runs], "{:,.0f}"),
                spread([run.p50_ms for run in runs], "{:.2f}"),
                spread([run.p99_ms for run in runs], "{:.2f}"),
                str(sum(run.failures for run in runs)),
                f"{ratio(measured, arm, 'rps', connections):.2f}",
                f"{ratio(measured, arm, 'p99_ms', connections):.2f}",
            )
    Console(width=140).print(table)
    busy = CONNECTIONS[-1]
    ratios = {
        f"{label}_{name}": round(ratio(measured, arm, field, busy), 3)
        for name, field in (("throughput", "rps"), ("p99", "p99_ms"))
        for label, arm in (("one_version", "one"), ("split", "split"))
    }
    results = {f"{arm}_c{count}": [asdict(run) for run in runs] for (arm, count), runs in measured.items()}
    print(
        json.dumps(
            {
                "benchmark": "serve_overhead",
                "machine": {"host": socket.gethostname(), "cpus": os.cpu_count(), "platform": platform.platform()},
                "versions": {name: version(name) for name in ("rayline", "ray", "numpy", "msgspec")},
                "rounds": rounds,
                "results": results,
                "ratios": ratios,
                "failures": sum(run.failures for runs in measured.values() for run in runs),
            }
        )
    )


def spread(values: list[float], form: str) -> str:
    """Return the median and the span of some figures."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{form.format(middle)} ({form.format(low)} to {form.format(high)})"


if __name__ == "__main__":
    sys.exit(main())
