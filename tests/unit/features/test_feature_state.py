"""A fitted state does not depend on the order of rows or on how they were cut into blocks."""

from __future__ import annotations

import json
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.errors import SchemaError
from rayline.features.sketches import Distinct, Levels, Moments, Quantiles
from rayline.features.sketches import levels as levels_file
from rayline.features.state import ColumnState, FitState, merge_all

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
    assert moments.squares == sum(Fraction(value * value) for value in values)


def test_the_deviation_survives_a_large_mean() -> None:
    values = 1e12 + np.array([-1.0, 0.0, 1.0])
    moments = Moments.of(values, 1e12)
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
            name: ColumnState(
                len(values),
                1,
                {
                    "moments": Moments.of(np.array(values), 0.5),
                    "quantiles": Quantiles.of(np.array(values), 0.5, 4.0),
                    "distinct": Distinct.of(np.array(values)),
                    "levels": Levels.of({"x": 2}),
                },
            )
            for name, values in columns.items()
        },
        {"f": {"scaled": Moments.of(np.array([1.0]))}},
    )
    assert FitState.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


def test_counts_and_gaps_add_up() -> None:
    def levels(**counts: int) -> dict[str, Levels]:
        return {"levels": Levels.of(counts)}

    merged = merge_all(
        [
            FitState({"a": ColumnState(3, 1, levels(x=2))}),
            FitState(),
            FitState({"a": ColumnState(2, 0, levels(x=1, y=1))}),
        ]
    )
    assert merged.columns["a"] == ColumnState(5, 1, levels(x=3, y=1))


def test_an_unknown_state_format_is_refused() -> None:
    with pytest.raises(SchemaError, match="format 99"):
        FitState.from_json({"format": 99})


def test_endless_levels_keep_the_frequent_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels_file, "CAPACITY", 3)
    counted = Levels.of({"a": 9, "b": 5, "c": 1, "d": 1}).merged(Levels.of({"a": 1, "e": 1}))
    assert not counted.exact
    assert counted.rows == 18
    assert counted.counts["a"] >= 10 - counted.error
    assert counted.error <= counted.rows / 3
