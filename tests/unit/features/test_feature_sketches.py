"""Sketches: exact where they say so, within their stated error elsewhere, and the same in any cut and order."""

from __future__ import annotations

import json
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.errors import SchemaError
from rayline.features.sketches import (
    Distinct,
    Documents,
    Levels,
    Moments,
    Quantiles,
    TargetSums,
    VectorMoments,
    restored,
)
from rayline.features.sketches import levels as levels_module
from rayline.features.sketches import targets as targets_module

SOME = settings(max_examples=60, deadline=None)
WIDE = st.floats(-1e99, 1e99)
EVEN_SPREAD = st.floats(-1e6, 1e6)
SHARES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)


def arrays_of(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def back(sketch: Any) -> Any:
    return restored(json.loads(json.dumps(sketch.to_json())))


@SOME
@given(st.lists(WIDE, min_size=1, max_size=60), st.integers(0, 60))
def test_moments_are_exact_in_any_cut(values: list[float], cut: int) -> None:
    whole = Moments.of(arrays_of(values))
    assert whole.total == sum(map(Fraction, values))
    assert whole.squares == sum(Fraction(value * value) for value in values)
    assert Moments.of(arrays_of(values[cut:])).merged(Moments.of(arrays_of(values[:cut]))) == whole
    assert back(whole) == whole


@SOME
@given(st.lists(WIDE | EVEN_SPREAD, min_size=1, max_size=200), st.sampled_from([0.0, 3.5, -1e6]))
def test_a_quantile_is_within_its_stated_error(values: list[float], center: float) -> None:
    sketch = Quantiles.of(arrays_of(values), center, 1024.0)
    ordered, near = sorted(values), 1024.0 / 2**31
    for share, found in zip(SHARES, sketch.at(SHARES), strict=True):
        exact = ordered[math.floor(share * (len(values) - 1))]
        rounding = 4 * np.finfo(float).eps * (abs(center) + abs(exact))
        assert abs(found - exact) <= max(abs(exact - center) / 256, near) + rounding


@SOME
@given(st.lists(EVEN_SPREAD | st.integers(-4, 4).map(float), min_size=1, max_size=200), st.integers(2, 12))
def test_the_shares_of_bins_are_exact(values: list[float], number: int) -> None:
    borders, shares = Quantiles.of(arrays_of(values)).bins(number)
    assert list(borders) == sorted(set(borders))
    found = np.bincount(np.searchsorted(borders, values, side="right"), minlength=len(borders) + 1)
    assert (found / len(values)).tolist() == pytest.approx(shares)


@pytest.mark.parametrize("number", [1_000, 5_000, 200_000])
def test_distinct_values_are_counted_within_five_standard_errors(number: int) -> None:
    values = np.random.default_rng(3).permutation(np.repeat(np.arange(number) * 0.37, 2))
    parts = [Distinct.of(part) for part in np.array_split(values, 7)]
    merged = Distinct()
    for part in parts:
        merged = merged.merged(part)
    assert merged == Distinct.of(values) == back(merged)
    assert merged.exact == (number < 1_024)
    assert abs(merged.count - number) <= (0 if merged.exact else 5 * number / math.sqrt(1_022))


@SOME
@given(st.lists(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=40), max_size=8))
def test_counts_of_levels_are_too_low_by_no_more_than_their_error(blocks: list[list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels_module, "CAPACITY", 6)
        sketch = Levels()
        for block in blocks:
            sketch = sketch.merged(Levels.of(Counter(block)))
    truth = Counter(level for block in blocks for level in block)
    rows = sum(truth.values())
    assert sketch.rows == rows
    assert len(sketch.counts) <= 6
    assert sketch.error <= rows / 6
    assert sketch.exact == (sketch.error == 0)
    for level, count in truth.items():
        assert count - sketch.error <= sketch.counts.get(level, 0) <= count


TARGETS = st.floats(-1e99, 1e99) | st.floats(-1e-300, 1e-300) | st.sampled_from([0.0, 1.0, -1.0, 0.1, 1e16])
ROWS = st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(0, 2), TARGETS), max_size=40)


def sums_of(rows: list[tuple[str, int, float]]) -> TargetSums:
    texts = tuple(sorted({level for level, _, _ in rows} - {""}))
    codes = np.array([texts.index(level) if level else -1 for level, _, _ in rows], dtype=np.int64)
    folds = np.array([fold for _, fold, _ in rows], dtype=np.int64)
    target = np.array([[value, float(value > 0)] for _, _, value in rows]).reshape(-1, 2)
    return TargetSums.of(texts, codes, folds, target, ("x", "y"), 3)


@SOME
@given(ROWS, st.integers(0, 40), st.randoms())
def test_sums_of_the_target_are_exact_in_any_cut_and_order(
    rows: list[tuple[str, int, float]], cut: int, chance: Any
) -> None:
    whole = sums_of(rows)
    moved = chance.sample(rows, len(rows))
    assert sums_of(moved[cut:]).merged(sums_of(moved[:cut])) == whole == back(whole)
    exact = whole.exact()
    for place, level in enumerate(("", None, *whole.texts)):
        for fold in range(3):
            of_it = [value for each, number, value in rows if (each, number) == (level, fold)]
            assert whole.counts[place, fold] == len(of_it)
            assert exact[place, fold, 0] * whole.unit == sum(map(Fraction, of_it))
            assert exact[place, fold, 1] * whole.unit == sum(value > 0 for value in of_it)


@SOME
@given(st.lists(ROWS, max_size=5))
def test_levels_that_are_let_go_still_count_in_the_totals(blocks: list[list[tuple[str, int, float]]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets_module, "CAPACITY", 2)
        patch.setattr(targets_module, "FEWEST", 2)
        sketch = sums_of([])
        for block in blocks:
            sketch = sketch.merged(sums_of(block))
    whole = sums_of([row for block in blocks for row in block])
    assert len(sketch.texts) <= 2
    assert sketch.counts.sum(axis=0).tolist() == whole.counts.sum(axis=0).tolist()
    assert (sketch.totals() * sketch.unit).tolist() == (whole.totals() * whole.unit).tolist()


def test_sums_of_other_folds_do_not_mix() -> None:
    with pytest.raises(SchemaError, match="other folds"):
        sums_of([]).merged(TargetSums.of((), np.zeros(0), np.zeros(0), np.zeros((0, 2)), ("x", "y"), 4))


@SOME
@given(st.lists(st.lists(WIDE, min_size=3, max_size=3), max_size=30), st.integers(0, 30))
def test_moments_of_arrays_are_exact_in_any_cut(rows: list[list[float]], cut: int) -> None:
    arrays = np.array(rows).reshape(-1, 3)
    whole = VectorMoments.of(arrays)
    assert VectorMoments.of(arrays[cut:]).merged(VectorMoments.of(arrays[:cut])) == whole == back(whole)
    assert whole.total == tuple(sum(map(Fraction, column), Fraction(0)) for column in arrays.T.tolist())
    assert whole.means == tuple(float(total / max(len(rows), 1)) for total in whole.total)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_deviations_of_arrays_survive_a_large_mean(dtype: Any) -> None:
    chance = np.random.default_rng(5)
    arrays = (chance.normal(size=(40_000, 5)) * [1, 1e-3, 0, 50, 1] + [1e3, 0, 7, -2e6, 1e4]).astype(dtype)
    wide = arrays.astype(np.longdouble)
    found = VectorMoments.of(arrays)
    assert found.means == pytest.approx(wide.mean(axis=0).astype(float).tolist(), rel=1e-12)
    assert found.deviations == pytest.approx(wide.std(axis=0).astype(float).tolist(), rel=1e-9)
    assert found.deviations[2] == 0
    far = arrays.astype(np.float64)[:, :1] + 1e9
    assert VectorMoments.of(far).deviations[0] == pytest.approx(float(np.std(far - 1e9)), rel=1e-6)


def test_moments_of_other_lengths_do_not_mix() -> None:
    with pytest.raises(SchemaError, match="3 and of 2 numbers"):
        VectorMoments.of(np.zeros((1, 3))).merged(VectorMoments.of(np.zeros((1, 2))))


def test_documents_add_up() -> None:
    first, second = Documents(3, np.array([1, 0, 3])), Documents(1, np.array([0, 0, 1]))
    merged = first.merged(second)
    assert merged == Documents(4, np.array([1, 0, 4])) == back(merged)
    assert merged.rarity().tolist() == pytest.approx([math.log(5 / 2) + 1, math.log(5) + 1, 1.0])
    with pytest.raises(SchemaError, match="3 and in 2 buckets"):
        first.merged(Documents(0, np.zeros(2, dtype=np.int64)))
