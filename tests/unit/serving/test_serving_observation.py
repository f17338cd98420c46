"""Counts: their sums, differences and quantiles, and how a window survives a replica's death."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.serving.records.counters import Counters, RowTruth, prediction_edges
from rayline.serving.records.observation import (
    LATENCY_EDGES,
    ArmStats,
    Observation,
    ShadowStats,
    SliceStats,
    latency_bucket,
)


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


COUNTS = st.integers(0, 9)
LEVELS = st.dictionaries(st.sampled_from("abc"), COUNTS, max_size=3)
PARTS = st.builds(SliceStats, COUNTS, COUNTS, COUNTS, st.floats(0, 9), st.floats(0, 9))
SHADOWS = st.builds(
    ShadowStats, rows=COUNTS, agreed=COUNTS, slices=st.dictionaries(st.sampled_from("xy"), st.tuples(COUNTS, COUNTS))
)
ARMS = st.builds(
    ArmStats,
    requests=COUNTS,
    errors=COUNTS,
    latency_counts=st.tuples(*[COUNTS] * 3).map(lambda some: some + (0,) * (len(LATENCY_EDGES) - 2)),
    prediction_counts=LEVELS,
    feedback=COUNTS,
    correct=COUNTS,
    absolute_error=st.floats(0, 9),
    squared_error=st.floats(0, 9),
    feature_counts=st.dictionaries(st.sampled_from("pq"), LEVELS),
    slices=st.dictionaries(st.sampled_from("st"), PARTS),
    shadow=SHADOWS,
)
FLEETS = st.dictionaries(st.sampled_from("klmn"), st.dictionaries(st.sampled_from([1, 2]), ARMS), max_size=4)


@given(FLEETS, FLEETS)
def test_a_window_over_many_replicas_is_the_sum_of_their_differences(
    before: dict[str, dict[int, ArmStats]], more: dict[str, dict[int, ArmStats]]
) -> None:
    now = {
        replica: {
            number: arm.plus(before[replica][number]) if number in before.get(replica, {}) else arm
            for number, arm in arms.items()
        }
        for replica, arms in more.items()
    }
    early, late = Observation(1.0, 1, before), Observation(2.0, 1, now)
    totals: dict[int, ArmStats] = {}
    for replica, arms in now.items():
        for number, arm in arms.items():
            known = before.get(replica, {}).get(number)
            gained = arm.minus(known) if known is not None else arm
            totals[number] = totals[number].plus(gained) if number in totals else gained

    window = late.since(early)

    assert {number: without_floats(arm) for number, arm in window.items()} == {
        number: without_floats(arm) for number, arm in totals.items()
    }
    for number, arm in totals.items():
        assert window[number].absolute_error == pytest.approx(arm.absolute_error, abs=1e-9)
        assert window[number].squared_error == pytest.approx(arm.squared_error, abs=1e-9)
    assert json.loads(json.dumps({number: arm.to_json() for number, arm in window.items()})) or not window


def without_floats(arm: ArmStats) -> dict[str, object]:
    """Return the counts of an arm that are whole numbers; what is nothing counts as absent."""
    raw = arm.to_json()
    raw["slices"] = {
        name: [part[key] for key in ("rows", "feedback", "correct")] for name, part in raw["slices"].items()
    }
    raw["absolute_error"] = raw["squared_error"] = 0.0
    for name in ("prediction_counts", "slices"):
        raw[name] = {key: count for key, count in raw[name].items() if count not in (0, [0, 0, 0])}
    columns = {
        column: {key: count for key, count in each.items() if count} for column, each in raw["feature_counts"].items()
    }
    raw["feature_counts"] = {column: counts for column, counts in columns.items() if counts}
    raw["shadow"]["slices"] = {name: counts for name, counts in raw["shadow"]["slices"].items() if any(counts)}
    return raw


@given(FLEETS, st.booleans(), st.booleans())
def test_an_observation_without_its_details_tells_the_rest(
    fleet: dict[str, dict[int, ArmStats]], columns: bool, slices: bool
) -> None:
    whole, less = Observation(1.0, 1, fleet), Observation(1.0, 1, fleet).only(columns=columns, slices=slices)
    for number, arm in whole.since(None).items():
        kept = less.since(None)[number]
        assert (kept.requests, kept.latency_counts, kept.correct) == (arm.requests, arm.latency_counts, arm.correct)
        assert kept.feature_counts == (arm.feature_counts if columns else {})
        assert kept.slices == (arm.slices if slices else {})


def test_it_survives_json() -> None:
    seen = Observation(1.5, 7, {"a": {1: counted(0.1, 0.2), 12: ArmStats()}})
    assert Observation.from_json(json.loads(json.dumps(seen.to_json()))) == seen


def test_a_quantile_beyond_the_last_edge_is_the_last_edge() -> None:
    assert counted(500.0).latency(0.99) == pytest.approx(LATENCY_EDGES[-1])
