"""A fitted state does not depend on the order of rows or on how they were cut into blocks."""

from __future__ import annotations

import json
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.errors import DataError, SchemaError
from rayline.features import state
from rayline.features.state import ColumnState, FitState, Moments, merge_all

numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100)


@given(st.lists(numbers, min_size=1, max_size=200), st.randoms(use_true_random=False), st.integers(1, 50))
def test_moments_are_the_same_value_for_every_order_and_cut(
    values: list[float], chance: random.Random, size: int
) -> None:
    whole = Moments.of(np.array(values))
    chance.shuffle(values)
    parts = [Moments.of(np.array(values[start : start + size])) for start in range(0, len(values), size)]
    merged = Moments()
    for part in parts:
        merged = merged.merged(part)
    assert merged == whole


@given(st.lists(st.floats(min_value=-1e60, max_value=1e60), min_size=1, max_size=60))
def test_sums_are_exact(values: list[float]) -> None:
    moments = Moments.of(np.array(values))
    assert moments.total == sum(Fraction(value) for value in values)
    expected = sum(Fraction(value) ** 2 for value in values)
    assert abs(moments.squares - expected) <= Fraction(1, 2**1000) + expected / 2**100


def test_the_deviation_survives_a_large_mean() -> None:
    values = 1e12 + np.array([-1.0, 0.0, 1.0])
    moments = Moments.of(values)
    assert moments.mean == 1e12
    assert moments.std == pytest.approx((2 / 3) ** 0.5, rel=1e-12)


def test_many_chunks_agree_with_numpy() -> None:
    values = np.random.default_rng(7).normal(3.0, 2.0, 100_001)
    moments = Moments.of(values)
    assert moments.mean == pytest.approx(values.mean(), rel=1e-12)
    assert moments.std == pytest.approx(values.std(), rel=1e-12)
    assert (moments.minimum, moments.maximum) == (values.min(), values.max())


@given(st.dictionaries(st.sampled_from("abc"), st.lists(numbers, max_size=5), min_size=1))
def test_a_state_comes_back_from_json_exactly(columns: dict[str, list[float]]) -> None:
    fitted = FitState(
        {
            name: ColumnState(len(values), 1, {"value": Moments.of(np.array(values))}, {"x": 2})
            for name, values in columns.items()
        }
    )
    assert FitState.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


def test_counts_and_gaps_add_up() -> None:
    merged = merge_all(
        [
            FitState({"a": ColumnState(3, 1, counts={"x": 2})}),
            FitState(),
            FitState({"a": ColumnState(2, 0, counts={"x": 1, "y": 1})}),
        ]
    )
    assert merged.columns["a"] == ColumnState(5, 1, counts={"x": 3, "y": 1})


def test_an_unknown_state_format_is_refused() -> None:
    with pytest.raises(SchemaError, match="format 99"):
        FitState.from_json({"format": 99})


def test_endless_levels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MOST_LEVELS", 3)
    first = FitState({"user": ColumnState(2, 0, counts={"a": 1, "b": 1})})
    second = FitState({"user": ColumnState(2, 0, counts={"c": 1, "d": 1})})
    with pytest.raises(DataError, match=r"'user' has more than 3 different values.*features\.drop"):
        first.merged(second)
