"""Where does each microsecond of a request go inside a replica?

Question   What a replica's own processor time for one predict request is made of, from the bytes of the request to the
           bytes of its answer; and what sharing passes and taking connections over from uvicorn save.
Ceiling    The network's own forward pass: what is left if everything else cost nothing.
Method     In one process, without sockets, ingress or Ray: the replica's application on uvicorn's protocol (httptools,
           uvloop), fed with bytes, its writes caught. 1 or 16 connections send a single row in one turn of the event
           loop; stages are timed alone as well. Each figure is the best of many repetitions, as a busy machine only
           adds. The bundle is that of serving.py.
Command    python benchmarks/microseconds.py [--quick]

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from rich.console import Console
from rich.table import Table
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from rayline.serving.host import Host
from rayline.serving.http import fastlane
from rayline.serving.http.endpoint import Endpoint
from rayline.serving.http.frontdoor import FrontDoor
from rayline.serving.records.feedback import Answers, Feedback, FeedbackLog
from rayline.serving.replica import compute_on
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from rayline.serving.versions import passing
from rayline.serving.versions.answering import Limits
from serve_overhead import bundle

SERVICE = "one"
BUSY = 16
ARMS = {
    "uvicorn, a pass per request": (False, False),
    "uvicorn, shared passes": (True, False),
    "taken over, shared passes": (True, True),
}


class Wire:
    """A transport that catches what is written."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.answered = asyncio.Event()
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written = data
        self.answered.set()

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)}.get(name, default)

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


def main() -> int:
    """Run the benchmark. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    options = parser.parse_args()
    turns = 300 if options.quick else 3000
    compute_on(1)
    with tempfile.TemporaryDirectory(prefix="rayline-bench-") as name:
        made = bundle(Path(name) / "bundle", 1)
        host = Host(SERVICE, on_change=lambda: None)
        host.apply(TrafficPlan.first(SERVICE, LiveVersion(1, str(made.path), made.digest)), wait=True)
        body = json.dumps({"rows": [dict(made.example[0])]}).encode()
        whole = {
            (arm, count): uvloop.run(per_request(host, Path(name), body, count, turns, *how))
            for arm, how in ARMS.items()
            for count in (1, BUSY)
        }
        parts = stages(host, body, turns)
    report(whole, parts, turns)
    return 0


async def per_request(host: Host, folder: Path, body: bytes, count: int, turns: int, shared: bool, over: bool) -> float:
    """Return the microseconds of one of ``count`` requests that come in one turn of the loop."""
    server, fastlane.SERVER = fastlane.SERVER, fastlane.SERVER if over else "none"
    log = FeedbackLog(folder / "feedback.jsonl")
    answers = Answers("00c0ffee")
    endpoint = Endpoint(
        SERVICE,
        host,
        answers,
        Feedback(host, answers, log, "00c0ffee"),
        pass_on=lambda *_: None,
        peers=frozenset({"127.0.0.1"}),
        limits=Limits(batching=shared),
    )
    config = uvicorn.Config(FrontDoor(None, endpoint), lifespan="off", log_config=None, http="httptools")
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Wed, 25 Nov 2026 20:00:00 GMT"), (b"server", b"uvicorn")]
    wires = [Wire() for _ in range(count)]
    for wire in wires:
        wire.protocol = HttpToolsProtocol(config, state, {})
        wire.protocol.connection_made(wire)
    request = request_of(body)
    best = float("inf")
    try:
        for _ in range(max(20, turns // count)):
            began = time.perf_counter()
            for wire in wires:
                wire.answered.clear()
                wire.protocol.data_received(request)
            for wire in wires:
                await wire.answered.wait()
            best = min(best, time.perf_counter() - began)
            await asyncio.sleep(0)  # the server's own end of a request, beyond its answer
            await asyncio.sleep(0)
            assert wires[0].written.startswith(b"HTTP/1.1 200"), wires[0].written
    finally:
        fastlane.SERVER = server
        log.close()
    return best / count * 1e6


def request_of(body: bytes) -> bytes:
    """Return a request as an ingress sends it on."""
    head = f"POST /{SERVICE}/predict HTTP/1.1\r\nhost: 127.0.0.1:8000\r\ncontent-type: application/json\r\n"
    more = f"user-agent: client/1.0\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head + more).encode() + body


def stages(host: Host, body: bytes, turns: int) -> dict[str, tuple[float, float]]:
    """Return the microseconds of each stage for a request alone, and for one of 16 that share a pass."""
    served = host.choose(None, None)
    request = request_of(body)
    head = request[: request.index(b"\r\n\r\n") + 2]
    path = f"/{SERVICE}/predict".encode()
    requests = [served.decode(body, 10) for _ in range(BUSY)]
    answers = Answers("00c0ffee")

    def matrix(count: int) -> Any:
        return passing.matrix_of(served, requests[:count])

    def keep(predictions: Any) -> None:
        outcomes = predictions.outcomes
        answers.remember(answers.new_id(1), 1, outcomes)
        served.counters.answered(1e-4, outcomes, labelled=served.labelled)

    network, answer = served.predictor.network, served.predictor.predict_matrix
    one, many = matrix(1), matrix(BUSY)
    predictions = answer(one)
    return {
        "read the head (where it is another than before)": (best(lambda: fastlane.read_head(head, path), turns),) * 2,
        "choose the version": (best(lambda: host.choose(None, None), turns),) * 2,
        "decode the row": (best(lambda: served.decode(body, 10), turns),) * 2,
        "scale into the matrix": (best(lambda: matrix(1), turns), best(lambda: matrix(BUSY), turns) / BUSY),
        "forward pass": (best(lambda: network(one), turns), best(lambda: network(many), turns) / BUSY),
        "probabilities": (
            best(lambda: answer(one), turns) - best(lambda: network(one), turns),
            (best(lambda: answer(many), turns) - best(lambda: network(many), turns)) / BUSY,
        ),
        "remember and count": (best(lambda: keep(predictions), turns),) * 2,
        "write the JSON": (best(lambda: served.encoder.encode(predictions), turns),) * 2,
    }


def best(call: Callable[[], object], turns: int) -> float:
    """Return the microseconds of the quickest call, of batches of ten."""
    found = float("inf")
    for _ in range(max(10, turns // 10)):
        began = time.perf_counter()
        for _ in range(10):
            call()
        found = min(found, (time.perf_counter() - began) / 10)
    return found * 1e6


def report(whole: dict[tuple[str, int], float], parts: dict[str, tuple[float, float]], turns: int) -> None:
    """Print both tables, then the one line of JSON."""
    table = Table(title=f"Microseconds of a replica's processor per request, single rows, best of {turns}")
    for column in ("", "alone", f"one of {BUSY}"):
        table.add_column(column, justify="left" if not column else "right")
    for arm in ARMS:
        table.add_row(arm, f"{whole[arm, 1]:.1f}", f"{whole[arm, BUSY]:.1f}")
    table.add_section()
    for stage, (alone, shared) in parts.items():
        table.add_row(stage, f"{alone:.1f}", f"{shared:.1f}")
    sums = [sum(each[place] for each in parts.values()) for place in (0, 1)]
    rest = [whole["taken over, shared passes", count] - total for count, total in zip((1, BUSY), sums, strict=True)]
    table.add_row("all else: event loop, book-keeping, bytes", *(f"{each:.1f}" for each in rest))
    Console(width=120).print(table)
    first, _, last = ARMS
    line = {
        "benchmark": "microseconds",
        "machine": {"host": socket.gethostname(), "cpus": os.cpu_count(), "platform": platform.platform()},
        "versions": {name: version(name) for name in ("rayline", "numpy", "msgspec", "uvicorn", "uvloop", "httptools")},
        "rounds": turns,
        "results": {f"{arm}_c{count}": value for (arm, count), value in whole.items()} | {"stages": parts},
        "ratios": {
            "alone_vs_uvicorn": round(whole[first, 1] / whole[last, 1], 2),
            "shared_vs_uvicorn": round(whole[first, BUSY] / whole[last, BUSY], 2),
        },
    }
    print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
