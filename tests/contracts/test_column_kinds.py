"""Every kind of column keeps one contract: batch, row and restored state give the same finite numbers."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.config import CONFIG_OF, ColumnKind, FeaturesConfig
from rayline.errors import RowError
from rayline.features.feature_set import FeatureSet
from rayline.features.schema import ColumnSchema, Schema
from rayline.features.state import merge_all
from rayline.features.transform import FittedFeatureSet

KINDS: tuple[ColumnKind, ...] = ("numeric", "categorical", "boolean", "datetime")

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "numeric": st.floats(-1e99, 1e99) | st.integers(-(2**62), 2**62).map(float),
    "categorical": st.sampled_from(["red", "green", "1", "1.0", "01", "", "-3", "x=y", "<unknown>"])
    | st.text(max_size=3),
    "boolean": st.booleans(),
    "datetime": st.datetimes(),
}
TYPES = {"numeric": pa.float64(), "categorical": pa.string(), "boolean": pa.bool_(), "datetime": pa.timestamp("us")}
WRONG: dict[str, list[object]] = {
    "numeric": ["12", "a", math.inf, -math.inf, 1e101, 10**400, [1.0], {"a": 1}],
    "categorical": [math.inf, ["a"], {"a": 1}],
    "boolean": [2, -1, 0.5, "yes", [True]],
    "datetime": ["2011-13-01", "soon", 5, True, ["2011-01-01"]],
}


def feature_set(kind: ColumnKind, **settings: Any) -> FeatureSet:
    schema = Schema((ColumnSchema("c", kind),), "y", "binary", ("a", "b"))
    return FeatureSet.from_config(FeaturesConfig(target="y", columns={"c": CONFIG_OF[kind](**settings)}), schema)


def table_of(kind: ColumnKind, values: list[Any]) -> pa.Table:
    return pa.table({"c": pa.array(values, TYPES[kind]), "y": (["a", "b"] * len(values))[: len(values)]})


def columns_of(kind: ColumnKind) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.none() | VALUES[kind], min_size=2, max_size=30)


def fitted_on(kind: ColumnKind, values: list[Any]) -> FittedFeatureSet:
    spread = {"numeric": [0.0, 1.0], "categorical": ["red"], "boolean": [True]}.get(kind)
    known = spread or [datetime(2011, 1, 1), datetime(2012, 7, 9, 10, 30)]
    parts = {"parts": ("year", "month", "day", "weekday", "hour", "minute", "elapsed")} if kind == "datetime" else {}
    return feature_set(kind, **parts).fit(table_of(kind, [*values, *known]))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_batch_row_and_restored_state_agree(kind: ColumnKind, data: st.DataObject) -> None:
    fitted = fitted_on(kind, data.draw(columns_of(kind)))
    values = data.draw(columns_of(kind))
    batch = fitted.transform(table_of(kind, values))
    assert batch.shape == (len(values), fitted.width)
    assert batch.dtype == np.float32
    assert np.isfinite(batch).all()
    rows = [{"c": value} for value in values]
    assert np.array_equal(fitted.rows(rows), batch)
    assert np.array_equal(np.stack([fitted.row(row) for row in rows]), batch)
    restored = FittedFeatureSet.from_json(json.loads(json.dumps(fitted.to_json())))
    assert restored == fitted
    assert restored.fingerprint == fitted.fingerprint
    assert np.array_equal(restored.transform(table_of(kind, values)), batch)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).rows(rows), batch)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_the_fit_does_not_depend_on_blocks_or_order(kind: ColumnKind, data: st.DataObject) -> None:
    values = data.draw(columns_of(kind))
    features = feature_set(kind)
    size = data.draw(st.integers(1, 10))
    moved = data.draw(st.permutations(values))
    whole = features.observe(table_of(kind, values))
    cut = [features.observe(table_of(kind, list(moved[at : at + size]))) for at in range(0, len(moved), size)]
    merged = merge_all(cut)
    assert (merged.columns["c"], merged.extras) == (whole.columns["c"], whole.extras)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_values_as_json_give_the_same_numbers(kind: ColumnKind, data: st.DataObject) -> None:
    values = data.draw(columns_of(kind))
    fitted = fitted_on(kind, values)
    batch = fitted.transform(table_of(kind, values))

    def sent(value: Any) -> Any:
        return value.isoformat() if hasattr(value, "isoformat") else value

    rows = json.loads(json.dumps([{"c": sent(value)} for value in values]))
    assert np.array_equal(fitted.rows(rows), batch)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_value_is_answered(kind: ColumnKind) -> None:
    fitted = fitted_on(kind, [])
    assert np.isfinite(fitted.row({"c": None})).all()
    assert np.array_equal(fitted.row({"c": None}), fitted.transform(table_of(kind, [None]))[0])


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind in KINDS for value in WRONG[kind]])
def test_a_wrong_value_names_row_column_value_and_rule(kind: ColumnKind, value: object) -> None:
    fitted = fitted_on(kind, [])
    with pytest.raises(RowError) as caught:
        fitted.rows([{"c": None}, {"c": value}])
    assert (caught.value.row, caught.value.column, caught.value.value) == (1, "c", value)
    assert caught.value.rule.startswith("is not ")


@pytest.mark.parametrize("kind", KINDS)
def test_an_absent_column_is_refused_with_the_nearest_key(kind: ColumnKind) -> None:
    fitted = fitted_on(kind, [])
    with pytest.raises(RowError, match=r"row 1, column 'c'.*no such column.*null where unknown"):
        fitted.rows([{"c": None}, {"other": 1}])


@pytest.mark.parametrize(
    ("kind", "same"),
    [
        (
            "numeric",
            [pa.array([1, 0]), pa.array([1.0, 0.0], pa.float32()), pa.array(["1", "0.0"]), pa.array([True, False])],
        ),
        (
            "categorical",
            [pa.array(["1", "2"]), pa.array([1, 2]), pa.array([1.0, 2.0], pa.float32()), pa.array(["1.0", "02"])],
        ),
        ("boolean", [pa.array([True, False]), pa.array([1, 0]), pa.array([1.0, 0.0]), pa.array(["true", "False"])]),
        (
            "datetime",
            [
                pa.array(["2011-01-02", "2012-03-04"]),
                pa.array(["2011-01-02T00:00:00Z", "2012-03-04T01:00:00+01:00"]),
                pa.array(["2011-01-02", "2012-03-04"]).cast(pa.date32()),
                pa.array(["2011-01-02", "2012-03-04"]).cast(pa.timestamp("s")),
                pa.array(["2011-01-02", "2012-03-04"]).cast(pa.timestamp("ns")),
            ],
        ),
    ],
)
def test_every_physical_type_means_the_same(kind: ColumnKind, same: list[pa.Array]) -> None:
    fitted = feature_set(kind).fit(pa.table({"c": same[0], "y": ["a", "b"]}))
    expected = fitted.transform(pa.table({"c": same[0]}))
    for array in [*same, same[0].dictionary_encode(), pa.chunked_array([same[0][:1], same[0][1:]])]:
        assert np.array_equal(fitted.transform(pa.table({"c": array})), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_table_gives_no_rows(kind: ColumnKind) -> None:
    fitted = fitted_on(kind, [])
    assert fitted.transform(table_of(kind, [])).shape == (0, fitted.width)
    assert fitted.rows([]).shape == (0, fitted.width)


@pytest.mark.parametrize("kind", KINDS)
def test_any_mapping_is_a_row(kind: ColumnKind) -> None:
    class Row(Mapping[str, object]):
        def __getitem__(self, key: str) -> object:
            return {"c": None}[key]

        def __iter__(self) -> Any:
            return iter(("c",))

        def __len__(self) -> int:
            return 1

    assert np.array_equal(fitted_on(kind, []).row(Row()), fitted_on(kind, []).row({"c": None}))
