"""Does anything that a client can send make a service fail?

Question   Of very many hostile requests, how many are answered with a 5xx, or not at all?
Ceiling    None: every request has an answer below 500.
Method     Services on four real bundles (classes, a number, every kind of column, arrays), in process over ASGI: good
           requests of each protocol, with values, bytes, headers, paths and methods changed at random from a seed; then
           requests that schemathesis makes of the OpenAPI document, right and wrong; raw bytes on sockets to a real
           HTTP server: lengths that lie, garbage in chunks, floods of headers, bodies that never come. After each
           part a good request is asked again. An exception that leaves the application counts as a 5xx.
Command    python benchmarks/fuzz.py [--quick] [--requests N] [--seed N]

The last line is one JSON object; the goal is 50,000 requests and 0 failures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import socket
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, cast

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from hostile_requests import Request, good_requests, hostile, raw_attacks
from live_app import listening
from protocol_app import App, send

TASKS = ("binary", "regression", "mixed", "arrays")
SHOWN = 5
ANSWER_SECONDS = 5.0
SILENT_SECONDS = 0.3

Failures = list[str]


def main() -> int:
    """Fuzz, print the counts and return 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the requests")
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    total = asked.requests // 20 if asked.quick else asked.requests
    began = time.perf_counter()
    counts: dict[str, Counter[str]] = {}
    failures: Failures = []
    with tempfile.TemporaryDirectory() as folder:
        for task in TASKS:
            app = App(Path(folder) / task, task, peers=None)
            good = good_requests(whole(app), app.ask("GET", "/churn/v2/models/churn").json)
            check_good(app, good)
            counts[f"{task}, changed"] = asyncio.run(storm(app, good, total // len(TASKS), asked.seed, failures))
            check_good(app, good)
            if task == TASKS[0]:
                counts["sockets"] = on_sockets(app, good[0], 2 if asked.quick else 10, failures)
                check_good(app, good)
            counts[f"{task}, by its document"] = by_document(app, max(10, total // 1_000), failures)
            check_good(app, good)
            app.log.close()
    report(counts, failures, time.perf_counter() - began, asked.seed)
    return 1 if failures else 0


def whole(app: App) -> list[dict[str, Any]]:
    """Return the example's rows that have no gap, as every protocol can carry them."""
    return [row for row in app.rows if all(value is not None for value in row.values())]


def check_good(app: App, good: list[Request]) -> None:
    """Raise where a good request is not answered well: the replica must have come through unharmed."""
    for request in good[:-1]:
        reply = app.ask(request.method, request.path, request.body, request.headers)
        if reply.status != 200:
            raise AssertionError(f"a good request to {request.path} got {reply.status}: {reply.raw[:300]!r}")


async def storm(app: App, good: list[Request], count: int, seed: int, failures: Failures) -> Counter[str]:
    """Send changed requests to the application, and count the answers by status."""
    random = Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(count):
        request = hostile(random, good)
        try:
            headers = {
                key: value.encode("latin-1", "replace").decode("latin-1") for key, value in request.headers.items()
            }
            reply = await send(app.endpoint, request.method, request.path, request.body, headers, "127.0.0.1", 1)
            status = str(reply.status)
            if reply.status >= 400:
                json.loads(reply.raw)["error"]
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            status = f"5xx {type(error).__name__}"
        seen[status] += 1
        if status.startswith("5"):
            failures.append(f"{status}: {request!r:.600}")
    return seen


def by_document(app: App, examples: int, failures: Failures) -> Counter[str]:
    """Send what schemathesis makes of the document, right and wrong, and count the answers by status."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.generation import GenerationMode

    schema = schemathesis.openapi.from_asgi("/churn/openapi.json", app.endpoint)
    seen: Counter[str] = Counter()
    few = settings(
        max_examples=examples, phases=[Phase.generate], deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    for operation in (cast("Any", each).ok() for each in schema.get_all_operations()):
        for mode in GenerationMode:
            if operation.method == "get" and mode is GenerationMode.NEGATIVE:
                continue

            @given(operation.as_strategy(generation_mode=mode))
            @few
            def ask(case: Any) -> None:
                status = str(case.call().status_code)
                seen[status] += 1
                if status.startswith("5"):
                    failures.append(f"{status}: {case!r:.600}")

            ask()
    return seen


def on_sockets(app: App, good: Request, rounds: int, failures: Failures) -> Counter[str]:
    """Send raw bytes to a real server, and count the answers by status."""
    seen: Counter[str] = Counter()
    with listening(app.endpoint) as port:
        for _ in range(rounds):
            for name, pieces in raw_attacks(good.body, good.path):
                for status in spoken(port, pieces):
                    seen[status] += 1
                    if status.startswith("5"):
                        failures.append(f"{status}: {name}")
        if spoken(port, [piece for _, pieces in [next(raw_attacks(good.body, good.path))] for piece in pieces]) != [
            "200"
        ]:
            failures.append("5xx: the server does not answer a good request any more")
    return seen


def spoken(port: int, pieces: list[bytes]) -> list[str]:
    """Return the statuses that a server answers to some bytes, ``closed`` or ``silent`` where there is none."""
    data = b""
    with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) as wire:
        wire.settimeout(SILENT_SECONDS)
        try:
            for piece in pieces:
                wire.sendall(piece)
                time.sleep(0.002)
            while part := wire.recv(65_536):
                data += part
            ended = "closed"
        except TimeoutError:
            ended = "silent"
        except OSError:
            ended = "closed"
    found = [line.split(b" ")[1].decode("latin-1") for line in data.splitlines() if line.startswith(b"HTTP/1.1 ")]
    return found or [ended]


def report(counts: dict[str, Counter[str]], failures: Failures, seconds: float, seed: int) -> None:
    """Print the counts by status, the first failures, and the line for machines."""
    statuses = sorted({status for seen in counts.values() for status in seen})
    table = Table("part", "requests", *statuses)
    for part, seen in counts.items():
        table.add_row(part, f"{seen.total():,}", *(f"{seen[status]:,}" if seen[status] else "" for status in statuses))
    total = sum(seen.total() for seen in counts.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console = Console(width=140)
    console.print(table)
    console.print(f"{total:,} requests, {len(failures)} failures, {seconds:.0f} s, at most {memory:,.0f} MB of memory")
    for failure in failures[:SHOWN]:
        console.print(failure, markup=False)
    print(
        json.dumps(
            {
                "benchmark": "fuzz",
                "machine": {"host": socket.gethostname(), "cpus": os.cpu_count(), "platform": platform.platform()},
                "versions": {name: version(name) for name in ("rayline", "schemathesis", "hypothesis", "uvicorn")},
                "rounds": 1,
                "results": {"requests": total, "failures": len(failures), "seed": seed, "seconds": round(seconds, 1)}
                | {"counts": {part: dict(seen) for part, seen in counts.items()}, "memory_mb": round(memory)},
                "ratios": {},
            }
        )
    )


if __name__ == "__main__":
    sys.exit(main())
