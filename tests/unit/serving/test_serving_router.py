"""The choice of a version: by weight, and the same for the same session."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.serving.traffic.router import choose, chooser

keys = st.text(min_size=1, max_size=40)
SESSIONS = [f"session-{number}" for number in range(20_000)]


@given(keys, st.dictionaries(st.integers(1, 99), st.integers(1, 100), min_size=1, max_size=4))
def test_the_choice_depends_on_key_and_weights_alone(key: str, weights: dict[int, int]) -> None:
    chosen = choose(key, weights)
    assert chosen in weights
    assert choose(key, dict(reversed(weights.items()))) == chosen


@given(keys, st.integers(0, 99), st.integers(1, 100))
def test_raising_the_canary_never_sends_a_session_back(key: str, lower: int, step: int) -> None:
    higher = min(100, lower + step)
    before = choose(key, {1: 100 - lower, 2: lower})
    after = choose(key, {1: 100 - higher, 2: higher})
    assert (before, after) in {(1, 1), (1, 2), (2, 2)}


@given(keys, st.integers(1, 99))
def test_a_third_version_takes_sessions_only_for_itself(key: str, weight: int) -> None:
    before = choose(key, {1: 60, 2: 40})
    assert choose(key, {1: 60, 2: 40, 3: weight}) in {before, 3}


def test_from_10_to_20_percent_exactly_the_difference_moves() -> None:
    before = {key: choose(key, {1: 90, 2: 10}) for key in SESSIONS}
    after = {key: choose(key, {1: 80, 2: 20}) for key in SESSIONS}
    on_canary = [sum(version == 2 for version in chosen.values()) for chosen in (before, after)]
    moved = sum(before[key] != after[key] for key in SESSIONS)
    assert on_canary[0] == pytest.approx(2_000, abs=150)
    assert on_canary[1] == pytest.approx(4_000, abs=200)
    assert moved == on_canary[1] - on_canary[0]


def test_a_version_without_weight_is_never_chosen() -> None:
    assert {choose(key, {1: 100, 2: 0}) for key in SESSIONS[:500]} == {1}


def test_the_choice_is_the_same_in_every_process_and_release() -> None:
    assert [choose(f"s{number}", {1: 50, 2: 50}) for number in range(12)] == [1, 2, 2, 2, 1, 2, 1, 1, 2, 2, 1, 2]


def test_without_a_session_the_shares_follow_the_weights() -> None:
    points = iter([step / 1000 for step in range(1000)])
    pick = chooser({1: 90, 2: 10}, draw=lambda: next(points))
    assert Counter(pick() for _ in range(1000)) == {1: 900, 2: 100}


def test_one_version_needs_no_draw() -> None:
    def refuse() -> float:
        raise AssertionError("drew a number")

    assert chooser({3: 100, 4: 0}, draw=refuse)() == 3


@pytest.mark.parametrize("weights", [{}, {1: 0}])
def test_no_weight_at_all_is_refused(weights: dict[int, int]) -> None:
    with pytest.raises(ValueError, match="no version has weight"):
        choose("key", weights)
    with pytest.raises(ValueError, match="no version has weight"):
        chooser(weights)
