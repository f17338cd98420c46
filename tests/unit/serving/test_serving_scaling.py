"""How many replicas a load asks for, and how much load there is."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.serving import load as loads
from rayline.serving.load import Load, LoopLag, spent
from rayline.serving.records.observation import LATENCY_EDGES, latency_bucket
from rayline.serving.scaling import METRIC, policy, wanted


@given(under_way=st.floats(0, 1e4), target=st.floats(0.1, 100), current=st.integers(1, 50))
def test_a_load_asks_for_the_same_number_again_once_it_has_it(under_way: float, target: float, current: int) -> None:
    """Whatever Serve makes of a wish, the same load must not wish it back."""
    first = max(1, -int(-wanted(under_way, target, current) // 1))
    second = max(1, -int(-wanted(under_way, target, first) // 1))
    assert second == first


@pytest.mark.parametrize(
    ("under_way", "current", "expected"),
    [(33, 2, 3), (32, 2, 2), (16, 2, 2), (13, 2, 2), (12, 2, 1), (0, 1, 0), (100, 1, 7)],
)
def test_a_replica_is_given_up_only_where_the_others_have_room_to_spare(
    under_way: float, current: int, expected: int
) -> None:
    assert -int(-wanted(under_way, 16.0, current) // 1) == expected


def test_serve_is_answered_by_what_the_replicas_measured() -> None:
    config = SimpleNamespace(get_target_ongoing_requests=lambda: 4.0)
    context = SimpleNamespace(
        current_num_replicas=2,
        target_num_replicas=2,
        aggregated_metrics={METRIC: {"a": 7.0, "b": 9.0}},
        total_num_requests=1.0,
        config=config,
    )
    assert policy(context) == (4.0, {})
    context.aggregated_metrics = None
    context.total_num_requests = 12.0  # by Serve's own proxy
    assert policy(context) == (3.0, {})
    context.current_num_replicas = 0
    assert policy(context) == (2, {})


def counts(*latencies: float) -> dict[str, dict[str, list[int]]]:
    held = [0] * (len(LATENCY_EDGES) + 1)
    for each in latencies:
        held[latency_bucket(each)] += 1
    return {"1": {"latency_counts": held}}


@given(st.lists(st.floats(1e-4, 30), max_size=50))
def test_the_time_spent_is_known_to_the_width_of_a_bucket(latencies: list[float]) -> None:
    requests, seconds = spent([counts(*latencies)["1"]["latency_counts"]])
    assert requests == len(latencies)
    assert seconds == pytest.approx(sum(latencies), rel=0.15)


def test_the_mean_under_way_is_rate_times_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(loads, "monotonic", lambda: clock[0])
    lag = LoopLag()
    measured = Load(lag)
    clock[0] = 110.0
    assert measured.under_way(counts(*[0.5] * 80)) == pytest.approx(4.0, rel=0.15)
    clock[0] = 120.0
    assert measured.under_way(counts(*[0.5] * 80)) == 0.0
    clock[0] = 130.0
    assert measured.under_way(counts(*[0.5] * 100)) == pytest.approx(1.0, rel=0.15)


def test_a_loop_that_is_held_up_is_late() -> None:
    async def story() -> tuple[float, float]:
        lag = LoopLag()
        lag.start()
        time.sleep(0.3)
        await asyncio.sleep(0.01)
        return lag.mean(), lag.mean()

    held_up, after = asyncio.run(story())
    assert held_up >= 0.2
    assert after == 0.0
