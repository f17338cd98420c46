"""What a table suggests: kinds, the task, and what to leave out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayline.config import DataConfig, FeaturesConfig, NumericConfig
from rayline.errors import ConfigError, DataError, RowError
from rayline.features.schemas.inference import infer, schema_for
from rayline.features.schemas.schema import Schema
from rayline.features.sources import read_table

DATA = Path(__file__).parents[3].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")

CHANCE = np.random.default_rng(3)
N = 400


def table_of(**columns: object) -> pa.Table:
    return pa.table({"x": CHANCE.normal(size=N), **columns})


def reasons(table: pa.Table, target: str = "y") -> dict[str, str]:
    return {each.column: each.reason for each in infer(table, target).dropped}


@needs_data
def test_bike_rentals() -> None:
    table = read_table(DataConfig(source=str(DATA / "bike_hour.csv")))
    inferred = infer(table, "cnt")
    assert inferred.schema.task == "regression"
    assert {each.column: each.reason for each in inferred.dropped} == {
        "instant": "is an identifier: another whole number in every row",
        "casual": "gives the target 'cnt' away: casual + registered = cnt",
        "registered": "gives the target 'cnt' away: casual + registered = cnt",
    }
    assert {column.name: column.kind for column in inferred.schema.columns} == {
        "dteday": "datetime",
        **dict.fromkeys(("season", "mnth", "hr", "weekday", "weathersit"), "categorical"),
        **dict.fromkeys(("yr", "holiday", "workingday"), "boolean"),
        **dict.fromkeys(("temp", "atemp", "hum", "windspeed"), "numeric"),
    }


@needs_data
def test_electricity_prices() -> None:
    inferred = infer(read_table(DataConfig(source=str(DATA / "elec.csv"))), "class")
    assert (inferred.schema.task, inferred.schema.classes, inferred.dropped) == ("binary", ("0", "1"), ())
    assert {column.kind for column in inferred.schema.columns} == {"numeric"}


@pytest.mark.parametrize(
    ("target", "task", "classes"),
    [
        (["a", "b"] * 200, "binary", ("a", "b")),
        ([True, False] * 200, "binary", ("false", "true")),
        ([0.0, 1.0] * 200, "binary", ("0", "1")),
        ([10, 9, 2, 10] * 100, "multiclass", ("2", "9", "10")),
        (["a", "b", "c", "a"] * 100, "multiclass", ("a", "b", "c")),
        (list(range(N)), "regression", ()),
        ([0.5, 0.25, 0.125, 1.0] * 100, "regression", ()),
    ],
)
def test_the_task_follows_the_target(target: list[object], task: str, classes: tuple[str, ...]) -> None:
    schema = infer(table_of(y=target), "y").schema
    assert (schema.task, schema.classes) == (task, classes)


def test_a_declared_task_wins() -> None:
    table = table_of(y=[3, 4, 5, 6] * 100)
    assert infer(table, "y").schema.task == "multiclass"
    assert infer(table, "y", "regression").schema.task == "regression"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3, 4] * 100, "categorical"),
        ([0, 1, 1, 1] * 100, "boolean"),
        (["true", "False"] * 200, "boolean"),
        ([1, 1000, 5, 70] * 100, "numeric"),
        (list(range(0, 4 * N, 4)), "numeric"),
        ([0.0, 1.0] * 200, "numeric"),
        (["2011-01-01", "2011-01-02T10:00:00Z"] * 200, "datetime"),
        (["red", "green", None, "red"] * 100, "categorical"),
        (["1", "2", "x", "y"] * 100, "categorical"),
    ],
)
def test_the_kind_follows_type_and_values(values: list[object], kind: str) -> None:
    assert infer(table_of(c=values, y=CHANCE.normal(size=N)), "y").schema.column("c").kind == kind


def test_columns_that_tell_nothing_are_left_out() -> None:
    found = reasons(
        table_of(
            one=["same"] * N,
            none=pa.nulls(N),
            row_id=CHANCE.permutation(N) * 1_000,
            counter=np.arange(N),
            name=[f"person {index}" for index in range(N)],
            nested=[{"a": 1}] * N,
            ragged=[[1], [1, 2]] * (N // 2),
            y=CHANCE.normal(size=N),
        )
    )
    assert found == {
        "one": "is constant: 'same' in every row",
        "none": "is empty: it has no value in any row",
        "row_id": "is an identifier: another whole number in every row",
        "counter": "is an identifier: another whole number in every row",
        "name": "is an identifier: another value in every row",
        "nested": "holds struct<a: int64>, which has no column kind",
        "ragged": "holds list<item: int64>, which has no column kind",
    }


def test_a_constant_with_gaps_is_kept() -> None:
    assert "sometimes" not in reasons(table_of(sometimes=["yes", None] * 200, y=CHANCE.normal(size=N)))


def test_leaks_of_a_regression() -> None:
    y = CHANCE.normal(size=N)
    a, b, c = (CHANCE.normal(size=N) for _ in range(3))
    assert reasons(table_of(copy=y, y=y)) == {"copy": "equals the target 'y'"}
    assert set(reasons(table_of(scaled=y * 3 + CHANCE.normal(size=N) * 1e-3, y=y))) == {"scaled"}
    assert set(reasons(table_of(a=a, b=b, y=a - b))) == {"a", "b"}
    assert reasons(table_of(a=a, b=b, c=c, y=a + b - c))["c"] == "gives the target 'y' away: a + b - c = y"
    assert reasons(table_of(a=a, b=b, y=a + b + CHANCE.normal(size=N) * 0.1)) == {}


def test_leaks_of_a_classification() -> None:
    y = CHANCE.integers(0, 2, N)
    three = CHANCE.integers(0, 3, N)
    assert set(reasons(table_of(score=y + CHANCE.random(N) * 0.5, y=y))) == {"score"}
    assert set(reasons(table_of(word=np.where(y == 1, "yes", "no"), y=y))) == {"word"}
    assert set(reasons(table_of(score=three + CHANCE.random(N) * 0.5, y=three))) == {"score"}
    assert reasons(table_of(score=y + CHANCE.normal(size=N), word=CHANCE.choice(["a", "b"], N), y=y)) == {}


def test_a_perfect_fit_of_few_rows_is_no_leak() -> None:
    table = pa.table({"x": np.arange(20) + 0.5, "y": np.arange(20) * 2.0})
    assert infer(table, "y").dropped == ()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"price": [1, 2]}), "no target column 'prise'. Did you mean 'price'"),
        (pa.table({"prise": pa.array([], pa.int64())}), "has no rows"),
        (pa.table({"x": [1, 2], "prise": ["a", "a"]}), "'a' in every row"),
        (pa.table({"x": [1, 2], "prise": [None, "a"]}), "no value in 1 of 2 rows"),
        (pa.table({"x": [1, 1], "prise": ["a", "b"]}), "no usable input column is left"),
    ],
)
def test_an_unusable_target_is_refused(table: pa.Table, message: str) -> None:
    with pytest.raises(DataError, match=message):
        infer(table, "prise")


def test_binary_needs_two_classes() -> None:
    with pytest.raises(DataError, match="3 classes, so the task is multiclass"):
        infer(table_of(y=[1, 2, 3, 1] * 100), "y", "binary")
    with pytest.raises(RowError, match="row 0, column 'y': 'a' is not a finite number"):
        infer(table_of(y=["a", "b"] * 200), "y", "regression")


def test_a_project_takes_all_columns_but_the_dropped() -> None:
    table = table_of(one=["same"] * N, z=CHANCE.normal(size=N), y=CHANCE.normal(size=N))
    assert schema_for(FeaturesConfig(target="y", drop=("z",)), table).names == ("x", "one")


def test_a_project_takes_the_declared_columns_as_declared() -> None:
    table = table_of(code=[1, 2, 3, 4] * 100, y=CHANCE.normal(size=N))
    features = FeaturesConfig(target="y", columns={"code": "numeric", "x": NumericConfig()})
    schema = schema_for(features, table)
    assert [(column.name, column.kind) for column in schema.columns] == [("code", "numeric"), ("x", "numeric")]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (FeaturesConfig(target="y", drop=("xx",)), r"features\.drop names 'xx'"),
        (FeaturesConfig(target="y", columns={"xx": "numeric"}), r"features\.columns names 'xx'"),
        (FeaturesConfig(target="y", columns={"y": "numeric"}), "names the target 'y'"),
    ],
)
def test_names_that_do_not_exist_are_refused(features: FeaturesConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        schema_for(features, table_of(y=CHANCE.normal(size=N)))


def test_a_schema_comes_back_from_json() -> None:
    schema = infer(table_of(c=["a", None, "b", "a"] * 100, y=["u", "v"] * 200), "y").schema
    assert Schema.from_json(schema.to_json()) == schema
    assert Schema.from_json(schema.to_json()).fingerprint == schema.fingerprint
