"""The bounds of what an analysis measures, with numbers computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.rollout.analysis.intervals import Estimate, divergence, excess, mean_error, proportion, quantile
from rayline.serving.records.observation import LATENCY_EDGES, ArmStats
from rollout_doubles import arm

COUNTS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 200), min_size=1).filter(
    lambda counts: sum(counts.values()) > 0
)


def test_proportion_bounds_are_exact() -> None:
    # No hit in 50: (1 - high)^50 = 0.01. One in three: 1 - (1 - low)^3 = 0.01 and (1 - high)^2 (1 + 2 high) = 0.01.
    none = proportion(0, 50)
    assert none == Estimate(0.0, 0.0, pytest.approx(1 - 0.01**0.02, abs=1e-12))
    one = proportion(1, 3)
    assert one.low == pytest.approx(1 - 0.99 ** (1 / 3), abs=1e-12)
    assert (1 - one.high) ** 2 * (1 + 2 * one.high) == pytest.approx(0.01, abs=1e-12)
    assert proportion(50, 50).low == pytest.approx(0.01**0.02, abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(1, 20), (12, 20), (41, 100), (873, 900), (5, 100_000), (970_000, 1_000_000)])
def test_proportion_bounds_agree_with_scipy(hits: int, n: int) -> None:
    from scipy.stats import beta

    found = proportion(hits, n)
    assert found.low == pytest.approx(beta.ppf(0.01, hits, n - hits + 1), rel=1e-8)
    assert found.high == pytest.approx(beta.ppf(0.99, hits + 1, n - hits), rel=1e-8)


def test_mean_error_bounds_are_the_mean_times_a_factor() -> None:
    found = mean_error(100.0, 25)
    factor = math.exp(2.3263478740408408 / 5)
    assert found == Estimate(4.0, pytest.approx(4.0 / factor), pytest.approx(4.0 * factor))


def test_quantile_bounds_are_order_statistics() -> None:
    # 99 fast requests and one slow: the 95th percentile is fast; its upper rank, 0.95 + 2.326 * sqrt(0.0475 / 100),
    # lies beyond all requests, so that the upper bound is the slow one.
    counts = list(ArmStats().latency_counts)
    fast, slow = 20, 40
    counts[fast], counts[slow] = 99, 1
    found = quantile(ArmStats(requests=100, latency_counts=tuple(counts)), 0.95)
    assert LATENCY_EDGES[fast - 1] < found.low < found.value <= LATENCY_EDGES[fast]
    assert found.high == pytest.approx(LATENCY_EDGES[slow])


def test_divergence_of_two_mirrored_samples() -> None:
    # p = (0.3, 0.7), q = (0.7, 0.3), middle 0.5: D = 0.3 log2 0.6 + 0.7 log2 1.4 = 0.118709; the correction for
    # k = 2 is (1/100 + 1/100) / (8 ln 2) = 0.003607; the distance is sqrt(0.115102).
    found = divergence({"a": 30, "b": 70}, {"a": 70, "b": 30})
    assert found.value == pytest.approx(0.339267, abs=1e-6)


def test_divergence_of_equal_and_of_disjoint_samples() -> None:
    equal = divergence({"a": 50, "b": 50}, {"a": 50, "b": 50})
    assert (equal.value, equal.low) == (0.0, 0.0)
    # D = 1, less the same correction: sqrt(0.996393).
    disjoint = divergence({"a": 100}, {"b": 100})
    assert disjoint.value == pytest.approx(0.998195, abs=1e-6)
    assert disjoint.high == 1.0


def test_excess_joins_the_arms_by_square_and_add() -> None:
    canary, stable = Estimate(0.5, 0.2, 0.6), Estimate(0.1, 0.06, 0.5)
    found = excess(canary, stable, ratio=1.0, offset=0.1)
    # down = hypot(0.3, 0.4) = 0.5; up = hypot(0.1, 0.04) = 0.107703.
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(-0.2)
    assert found.high == pytest.approx(0.407703, abs=1e-6)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_proportion_lies_within_its_bounds_and_they_within_0_and_1(case: tuple[int, int]) -> None:
    hits, n = case
    found, more = proportion(hits, n), proportion(hits * 10, n * 10)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert more.high - more.low < found.high - found.low


@given(COUNTS, COUNTS)
def test_divergence_is_symmetric_and_within_0_and_1(first: dict[str, int], second: dict[str, int]) -> None:
    found, turned = divergence(first, second), divergence(second, first)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert found.value == pytest.approx(turned.value, abs=1e-6)


@given(st.integers(1, 500), st.floats(0.01, 0.99))
def test_a_quantile_lies_within_its_bounds(n: int, q: float) -> None:
    found = quantile(arm(n, seconds=0.02), q)
    assert 0.0 <= found.low <= found.value <= found.high


def test_chance_seldom_tells_equal_arms_apart() -> None:
    random = np.random.default_rng(0)
    rounds, false_alarms, false_shifts = 400, 0, 0
    for _ in range(rounds):
        canary, stable = (proportion(int(random.binomial(n, 0.9)), n) for n in (100, 900))
        false_alarms += excess(stable, canary).low > 0
        shares = [0.5, 0.3, 0.2]
        first, second = (
            {str(place): int(count) for place, count in enumerate(random.multinomial(n, shares))} for n in (50, 450)
        )
        false_shifts += divergence(first, second).low > 0
    assert false_alarms / rounds < 0.025
    assert false_shifts / rounds < 0.02
