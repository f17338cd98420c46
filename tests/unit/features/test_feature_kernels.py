"""The compiled loops give what NumPy gives, bit for bit: which of them works is nobody's business."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.config import CategoricalConfig, FeaturesConfig, NumericConfig
from rayline.features import feature_set, kernels, threads, transform
from rayline.features.feature_set import FeatureSet
from rayline.features.schemas.inference import schema_for
from rayline.features.sketches import Distinct, Moments, Quantiles

numbers = st.floats(-1e99, 1e99) | st.integers(-5, 5).map(float) | st.just(-0.0) | st.floats(-1e-300, 1e-300)
grids = st.tuples(st.floats(-1e6, 1e6), st.integers(-40, 40).map(lambda power: 2.0**power))


@given(st.lists(st.none() | numbers, max_size=60), grids, st.integers(1, 80))
def test_the_sketches_are_the_same(values: list[float | None], grid: tuple[float, float], times: int) -> None:
    data = np.array([np.nan if value is None else value for value in values] * times)
    missing = np.isnan(data)
    present = data[~missing]
    assert kernels.look(data, missing, *grid) == {
        "moments": Moments.of(present, grid[0]),
        "quantiles": Quantiles.of(present, *grid),
        "distinct": Distinct.of(present),
    }


def test_many_different_numbers_are_estimated_alike() -> None:
    data = np.random.default_rng(1).normal(50, 3, 70_000)
    missing = np.random.default_rng(2).random(70_000) < 0.1
    found = kernels.look(data, missing, 50.0, 16.0)
    assert found["distinct"] == Distinct.of(data[~missing])
    assert found["moments"] == Moments.of(data[~missing], 50.0)
    assert not found["distinct"].exact


def test_few_numbers_that_repeat_are_all_counted() -> None:
    data = np.random.default_rng(4).integers(0, 9, 100_000).astype(np.float64)
    found = kernels.look(data, np.zeros(len(data), dtype=np.bool_), 4.0, 8.0)
    assert found["moments"] == Moments.of(data, 4.0)
    assert found["quantiles"] == Quantiles.of(data, 4.0, 8.0)
    assert found["distinct"] == Distinct.of(data)


def test_a_large_table_is_fitted_and_applied_like_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(3)
    rows = 3 * threads.ROWS + 17
    table = pa.table(
        {
            "a": pa.array(chance.normal(9, 2, rows), mask=chance.random(rows) < 0.1),
            "b": chance.integers(0, 9, rows),
            "c": pa.array(chance.choice(["x", "y", "z"], rows), mask=chance.random(rows) < 0.1),
            "d": chance.choice([f"level {place}" for place in range(40)], rows),
            "y": chance.normal(size=rows),
        }
    )
    columns = {
        "a": NumericConfig(),
        "b": NumericConfig(scale="robust"),
        "c": CategoricalConfig(),
        "d": CategoricalConfig(encode="target"),
    }
    features = FeaturesConfig(target="y", columns=columns)
    declared = FeatureSet.from_config(features, schema_for(features, table))
    small, matrix = declared.fit_transform(table)
    for module in (threads, feature_set):
        monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(transform, "is_large", lambda rows, columns: True)
    large, other = declared.fit_transform(table)
    assert large == small
    assert np.array_equal(matrix, other)
    assert np.array_equal(large.transform(table), small.transform(table, large=False))
