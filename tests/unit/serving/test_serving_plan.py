"""The traffic plan: what it refuses, and how the next one follows from it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.errors import NotFoundError, UsageError
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan

ONE, TWO = LiveVersion(1, "/bundles/1", "a" * 64), LiveVersion(2, "/bundles/2", "b" * 64)
FIRST = TrafficPlan.first("churn", ONE, edges=(0.5, 1.5))


@given(st.integers(0, 100))
def test_it_survives_json(share: int) -> None:
    plan = FIRST.adding(TWO).weighing(1, {1: 100 - share, 2: share})
    assert TrafficPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_the_first_plan_gives_all_traffic_to_one_version() -> None:
    assert (FIRST.generation, FIRST.stable, FIRST.weights) == (1, 1, {1: 100})


def test_each_change_raises_the_generation_and_keeps_the_bins() -> None:
    both = FIRST.adding(TWO)
    split = both.weighing(1, {1: 90, 2: 10})
    moved = split.weighing(2, {2: 100})
    alone = moved.removing(1)
    assert [plan.generation for plan in (both, split, moved, alone)] == [2, 3, 4, 5]
    assert both.weights == {1: 100}
    assert alone.numbers == (2,)
    assert alone.edges == (0.5, 1.5)


def test_a_change_made_already_changes_nothing() -> None:
    both = FIRST.adding(TWO)
    assert both.adding(TWO) is both
    assert both.weighing(1, {1: 100, 2: 0}) is both
    assert FIRST.removing(7) is FIRST


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({1: 50}, "add up to 50; they must give 100"),
        ({1: 100, 3: 0}, None),
        ({1: 90, 3: 10}, "version 3 cannot have weight 10, as it is not live. Live: 1, 2"),
        ({1: 110, 2: -10}, "weight 110 of version 1 must be a whole percent"),
        ({1: 99.5, 2: 0.5}, "weight 99.5 of version 1 must be a whole percent"),
    ],
)
def test_weights_that_cannot_be(weights: dict[int, int], message: str | None) -> None:
    both = FIRST.adding(TWO)
    if message is None:
        assert both.weighing(1, weights) is both
        return
    with pytest.raises(UsageError, match=message):
        both.weighing(1, weights)


def test_the_stable_version_must_be_live() -> None:
    with pytest.raises(UsageError, match="stable version 9 is not live"):
        FIRST.weighing(9, {1: 100})


def test_a_version_with_traffic_is_not_removed() -> None:
    split = FIRST.adding(TWO).weighing(1, {1: 90, 2: 10})
    with pytest.raises(UsageError, match="version 2 still has traffic"):
        split.removing(2)
    with pytest.raises(UsageError, match="version 1 still has traffic"):
        FIRST.adding(TWO).weighing(1, {2: 100}).removing(1)


def test_one_number_is_one_bundle() -> None:
    with pytest.raises(UsageError, match="live from another bundle"):
        FIRST.adding(LiveVersion(1, "/elsewhere", "c" * 64))


def test_an_unknown_version_is_named_with_the_live_ones() -> None:
    assert FIRST.version(1) == ONE
    with pytest.raises(NotFoundError, match=r"no live version 5\. Live: 1"):
        FIRST.version(5)


def test_another_format_is_refused() -> None:
    with pytest.raises(UsageError, match="format 99"):
        TrafficPlan.from_json({**FIRST.to_json(), "format": 99})
