"""The controller kills itself at points of its work, on a live service under load: some of benchmarks/failpoints.py."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ray

STEPS = [{"set_weight": 10}, {"analysis": True}, {"pause": "2s"}, {"set_weight": 100}]
TOLD = ("weight 10 %", "analysis of error rate", "left", "stable", "canary", "requests", "p95", "Healthy")
SOURCE = Path(__file__).parents[2] / "benchmarks" / "failpoints.py"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    """The benchmark as a module; what it sends to the controller travels by value."""
    spec = importlib.util.spec_from_file_location("failpoints_benchmark", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    ray.cloudpickle.register_pickle_by_value(module)
    yield module
    ray.cloudpickle.unregister_pickle_by_value(module)
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def bench(benchmark: ModuleType) -> Iterator[Any]:
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port = candidate.getsockname()[1]
    with benchmark.service(port) as live:
        yield live


@pytest.mark.parametrize(
    ("strategy", "point", "count"),
    [
        ("all_at_once", "unload.before", 1),
        ("blue_green", "set_routes.after", 1),
        ("canary", "set_weights.after", 2),
        ("shadow", "set_mirror.before", 2),
        ("abort", "write.after", 6),
        ("experiment", "observe.before", 1),
    ],
)
def test_a_controller_that_dies_there_comes_to_the_same_end(
    benchmark: ModuleType, bench: Any, strategy: str, point: str, count: int
) -> None:
    outcome = benchmark.Outcome()
    benchmark.one_round(bench, strategy, point, count, outcome)
    assert outcome.troubles == []
    assert (outcome.kills, outcome.converged, outcome.failed) == (1, 1, 0)
    assert outcome.requests > 0


def test_a_controller_that_dies_while_it_takes_over_comes_to_the_same_end(benchmark: ModuleType, bench: Any) -> None:
    outcome = benchmark.claimed(bench)
    assert outcome.troubles == []
    assert (outcome.kills, outcome.converged, outcome.failed) == (2, 2, 0)


def test_a_rollout_is_watched_in_a_terminal(
    benchmark: ModuleType, bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = {**benchmark.LOOK, "interval": 1.0, "count": 8}
    monkeypatch.setitem(benchmark.PLANS, "watched", {"strategy": "canary", "steps": STEPS, "analysis": look})
    storage = bench.settings.storage
    project = tmp_path / "rayline.yaml"
    project.write_text(
        f"name: wine\ndata: {{source: 'sklearn:wine'}}\nfeatures: {{target: target}}\nstorage: {storage}\n"
    )
    ruling = bench.start("watched")
    watch = ["rollout", "status", "wine", "--watch", "--config", str(project)]
    with ThreadPoolExecutor() as threads:
        watched = {columns: threads.submit(terminal, watch, columns) for columns in (80, 120)}
    assert bench.converged("watched", ruling) == ""
    for columns, screen in watched.items():
        shown = screen.result()
        for words in TOLD:
            assert words in shown, shown[-4000:]
        lines = [line for line in shown.splitlines() if line.strip()]
        assert max(map(len, lines)) <= columns


def terminal(arguments: list[str], columns: int) -> str:
    """Run the command line in a terminal of some width. Returns what it wrote, less colours and movements."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [str(Path(sys.executable).with_name("rayline")), *arguments]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = bytearray()
    try:
        while True:
            written += os.read(ours, 65_536)
    except OSError:  # the terminal is closed: the command has ended
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", written.decode(errors="replace")).replace("\r", "\n")
