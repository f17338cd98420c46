"""The controller kills itself at points of its work, on a live service under load: some of benchmarks/failpoints.py."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ray

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
        ("canary", "SetAlias.after", 2),
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
