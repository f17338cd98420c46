"""Counts: their sums, differences and quantiles, and how a window survives a replica's death."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.serving.counters import Counters, RowTruth, prediction_edges
from rayline.serving.observation import LATENCY_EDGES, ArmStats, Observation, latency_bucket


def counted(*latencies: float, label: str = "yes") -> ArmStats:
    counters = Counters(())
    for seconds in latencies:
        counters.answered(seconds, [label], labelled=True)
    return counters.snapshot()


@given(st.floats(0, 100, allow_nan=False))
def test_a_latency_lies_in_its_bucket(seconds: float) -> None:
    bucket = latency_bucket(seconds)
    assert bucket == len(LATENCY_EDGES) or seconds < LATENCY_EDGES[bucket]
    assert bucket == 0 or seconds >= LATENCY_EDGES[bucket - 1]


@given(st.lists(st.floats(1e-4, 30), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_is_right_to_a_bucket(latencies: list[float], quantile: float) -> None:
    found = counted(*latencies).latency(quantile)
    rank = max(1, -(-int(quantile * len(latencies) * 1e9) // 10**9))
    true = sorted(latencies)[rank - 1]
    assert found is not None
    assert true / 1.27 <= found <= true * 1.27


def test_no_request_has_no_latency() -> None:
    assert ArmStats().latency(0.5) is None


@given(st.lists(st.floats(1e-4, 30), max_size=30), st.lists(st.floats(1e-4, 30), max_size=30))
def test_minus_undoes_plus(first: list[float], second: list[float]) -> None:
    one, other = counted(*first), counted(*second)
    back = one.plus(other).minus(other)
    assert back.requests == one.requests
    assert back.latency_counts == one.latency_counts


def test_feedback_and_errors_are_counted() -> None:
    counters = Counters(())
    counters.failed(0.01)
    counters.told([RowTruth(correct=True), RowTruth(correct=True), RowTruth()])
    stats = counters.snapshot()
    assert (stats.requests, stats.errors, stats.feedback, stats.correct) == (1, 1, 3, 2)


def test_predicted_numbers_fall_into_bins() -> None:
    edges = prediction_edges(mean=10.0, deviation=4.0)
    counters = Counters(edges)
    counters.answered(0.001, [-1000.0, 10.0, 10.1, 1000.0], labelled=False)
    bins = counters.snapshot().prediction_counts
    assert bins == {"0": 1, "13": 2, str(len(edges)): 1}


def test_a_window_is_a_difference_per_version() -> None:
    early = Observation(1.0, 3, {"a": {1: counted(0.1)}, "b": {1: counted(0.1, 0.1)}})
    late = Observation(2.0, 3, {"a": {1: counted(0.1, 0.2), 2: counted(0.3)}, "b": {1: counted(0.1, 0.1, 0.1)}})
    window = late.since(early)
    assert {number: stats.requests for number, stats in window.items()} == {1: 2, 2: 1}
    assert window[1].prediction_counts == {"yes": 2}


def test_a_replica_that_restarted_counts_from_zero_and_a_dead_one_takes_nothing_away() -> None:
    early = Observation(1.0, 3, {"a": {1: counted(0.1, 0.1)}, "b": {1: counted(0.1)}})
    late = Observation(2.0, 3, {"b": {1: counted(0.1, 0.1)}, "c": {1: counted(0.1, 0.1, 0.1)}})
    assert late.since(early)[1].requests == 4


def test_without_an_earlier_look_all_counts() -> None:
    assert Observation(1.0, 1, {"a": {1: counted(0.1)}}).since(None)[1].requests == 1


def test_it_survives_json() -> None:
    seen = Observation(1.5, 7, {"a": {1: counted(0.1, 0.2), 12: ArmStats()}})
    assert Observation.from_json(json.loads(json.dumps(seen.to_json()))) == seen


def test_a_quantile_beyond_the_last_edge_is_the_last_edge() -> None:
    assert counted(500.0).latency(0.99) == pytest.approx(LATENCY_EDGES[-1])
