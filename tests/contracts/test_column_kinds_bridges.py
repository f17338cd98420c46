"""The kinds that take several columns, or what another library fitted, keep the contract of every kind.

Batch, row and restored state agree on finite numbers, the fit does not depend on blocks or order, and missing, extreme
and wrong values are defined.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayline.config import ColumnConfig, FeaturesConfig, FunctionConfig, SklearnConfig
from rayline.errors import RowError
from rayline.features.feature_set import FeatureSet
from rayline.features.kinds.lookup import LookupColumn
from rayline.features.reading.canonical import level_text
from rayline.features.schemas.schema import ColumnSchema, Schema
from rayline.features.state import merge_all
from rayline.features.transform import FittedFeatureSet

INPUTS = ("size", "sold", "day")


def sklearn(transformer: str, **options: Any) -> SklearnConfig:
    return SklearnConfig(transformer=f"sklearn.{transformer}", inputs=INPUTS, options=options)


CASES: dict[str, ColumnConfig] = {
    "function": FunctionConfig(function="log1p(abs(size)) / sold - sqrt(day)", inputs=INPUTS),
    "function, not scaled": FunctionConfig(
        function="size ** 3 if size > day else exp(day)", inputs=INPUTS, scale="none"
    ),
    "standard": sklearn("preprocessing:StandardScaler"),
    "minmax": sklearn("preprocessing:MinMaxScaler", clip=True),
    "robust": sklearn("preprocessing:RobustScaler"),
    "bins": sklearn("preprocessing:KBinsDiscretizer", n_bins=3, strategy="uniform"),
    "polynomial": sklearn("preprocessing:PolynomialFeatures"),
    "imputer": sklearn("impute:SimpleImputer", add_indicator=True, keep_empty_features=True),
    "neighbours": sklearn("impute:KNNImputer", n_neighbors=2, keep_empty_features=True),
    "components": sklearn("decomposition:PCA", n_components=1, svd_solver="full"),
}
SCHEMA = Schema(
    (ColumnSchema("size", "numeric"), ColumnSchema("sold", "boolean"), ColumnSchema("day", "datetime")),
    "y",
    "binary",
    ("a", "b"),
)
TYPES = pa.schema({"size": pa.float64(), "sold": pa.bool_(), "day": pa.timestamp("us")})
NUMBERS = st.floats(-1e6, 1e6, width=32)
EXTREME = NUMBERS | st.sampled_from([1e99, -1e99, 1e-99, 0.0])
ROWS_ENOUGH = [
    {"size": 1.5, "sold": True, "day": "2011-01-01T10:30"},
    {"size": -3.0, "sold": False, "day": "2012-07-09"},
    {"size": 70.0, "sold": True, "day": "1969-02-01"},
]
quick = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
numeric_noise = pytest.mark.filterwarnings("ignore:.*:UserWarning")  # scikit-learn's remarks on what it is fitted on


def rows_of(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.fixed_dictionaries(
        {"size": st.none() | numbers, "sold": st.none() | st.booleans(), "day": st.none() | st.datetimes()}
    )
    return st.lists(row, min_size=1, max_size=20)


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    days = [datetime.fromisoformat(each["day"]) if isinstance(each["day"], str) else each["day"] for each in rows]
    table = pa.table([[each["size"] for each in rows], [each["sold"] for each in rows], days], schema=TYPES)
    return table.append_column("y", pa.array((["a", "b"] * len(rows))[: len(rows)], pa.string()))


def feature_set(name: str) -> FeatureSet:
    return FeatureSet.from_config(FeaturesConfig(target="y", columns={"f": CASES[name]}), SCHEMA)


def fitted_on(name: str, rows: list[dict[str, Any]]) -> FittedFeatureSet:
    return feature_set(name).fit(table_of([*ROWS_ENOUGH, *rows]))


def agrees(one: Any, other: Any) -> bool:
    return bool(np.allclose(one, other, rtol=1e-6, atol=1e-6))


@numeric_noise
@pytest.mark.parametrize("name", CASES)
@quick
@given(known=rows_of(NUMBERS), rows=rows_of(EXTREME))
def test_batch_row_and_restored_state_agree(name: str, known: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    fitted = fitted_on(name, known)
    batch = fitted.transform(table_of(rows))
    assert batch.shape == (len(rows), fitted.width)
    assert batch.dtype == np.float32
    assert np.isfinite(batch).all()
    assert agrees(fitted.rows(rows), batch)
    restored = FittedFeatureSet.from_json(json.loads(json.dumps(fitted.to_json())))
    assert restored.fingerprint == fitted.fingerprint
    assert np.array_equal(restored.transform(table_of(rows)), batch)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).transform(table_of(rows)), batch)


@pytest.mark.parametrize("name", CASES)
@quick
@given(data=st.data(), rows=rows_of(EXTREME), size=st.integers(1, 10))
def test_the_fit_does_not_depend_on_blocks_or_order(
    name: str, data: st.DataObject, rows: list[dict[str, Any]], size: int
) -> None:
    features = feature_set(name)
    table = table_of(rows)
    moved = table.take(data.draw(st.permutations(range(len(rows)))))
    merged = merge_all(features.observe(moved.slice(at, size)) for at in range(0, len(rows), size))
    whole = features.observe(table)
    assert merged.extras == whole.extras
    assert json.dumps(merged.to_json()["extras"]) == json.dumps(whole.to_json()["extras"])
    assert type(whole).from_json(json.loads(json.dumps(whole.to_json()))).extras == whole.extras


@pytest.mark.parametrize("name", CASES)
def test_missing_values_are_answered(name: str) -> None:
    fitted = fitted_on(name, [])
    blank = dict.fromkeys(INPUTS)
    assert np.isfinite(fitted.row(blank)).all()
    assert agrees(fitted.row(blank), fitted.transform(table_of([blank]))[0])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("column", "value"), [("size", "12"), ("size", 1e101), ("size", float("inf")), ("sold", 2), ("day", "soon")]
)
def test_a_wrong_value_names_row_column_value_and_rule(name: str, column: str, value: object) -> None:
    fitted = fitted_on(name, [])
    with pytest.raises(RowError) as caught:
        fitted.rows([ROWS_ENOUGH[0], {**ROWS_ENOUGH[1], column: value}])
    assert (caught.value.row, caught.value.column, caught.value.value) == (1, column, value)
    assert caught.value.rule.startswith("is not ")


@pytest.mark.parametrize("name", CASES)
def test_an_absent_column_is_refused(name: str) -> None:
    with pytest.raises(RowError, match=r"row 1, column 'day'.*no such column"):
        fitted_on(name, []).rows([ROWS_ENOUGH[0], {"size": 1, "sold": True}])


@pytest.mark.parametrize("name", CASES)
def test_an_empty_table_gives_no_rows(name: str) -> None:
    fitted = fitted_on(name, [])
    assert fitted.transform(table_of([])).shape == (0, fitted.width)
    assert fitted.rows([]).shape == (0, fitted.width)


LEVELS = st.sampled_from(["red", "green", "1", "1.0", "", "blue", 1, 2.0, True]) | st.text(max_size=2)


@given(
    table=st.dictionaries(st.sampled_from(["red", "1", "2", "true", "x y"]), st.floats(-9, 9, width=32), min_size=1),
    unknown=st.none() | st.just(0.5),
    missing=st.none() | st.just(-1.0),
    value=st.none() | LEVELS,
)
def test_a_lookup_agrees_with_itself(
    table: dict[str, float], unknown: float | None, missing: float | None, value: object
) -> None:
    def pair(number: float | None) -> tuple[float, float] | None:
        return None if number is None else (number, 1.0)

    numbers = {level: (number, 2.0) for level, number in table.items()}
    column = LookupColumn("f", "c", ("[0]", "[1]"), numbers, pair(unknown), pair(missing))
    schema = Schema((ColumnSchema("c", "categorical"),), "y", "binary", ("a", "b"))
    fitted = FittedFeatureSet(schema, (column,))
    restored = FittedFeatureSet.from_json(json.loads(json.dumps(fitted.to_json())))
    assert restored == fitted
    found = answer(lambda: fitted.transform(pa.table({"c": pa.array([value])}))[0])
    assert found == answer(lambda: restored.row({"c": value}))
    known = level_text(value) in table if level_text(value) is not None else False
    refused = not known and (missing if level_text(value) is None else unknown) is None
    assert (found == (0, "c", value)) is refused


def answer(give: Callable[[], Any]) -> Any:
    """Return the numbers, or what the refusal names."""
    try:
        return give().tolist()
    except RowError as error:
        return error.row, error.column, error.value


def test_the_cases_hold_both_ways_of_scikit_learn() -> None:
    kept = {name: "plan" in fitted_on(name, []).columns[0].to_json() for name in CASES}
    assert [name for name, plan in kept.items() if not plan] == ["neighbours", "components"]
