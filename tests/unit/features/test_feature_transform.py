"""What the fitted features give, value by value."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from rayline.config import CategoricalConfig, DatetimeConfig, FeaturesConfig, NumericConfig
from rayline.errors import ConfigError, DataError, RowError, SchemaError
from rayline.features.feature_set import FeatureSet
from rayline.features.schemas.inference import schema_for
from rayline.features.transform import FittedFeatureSet


def fit(table: pa.Table, **columns: object) -> FittedFeatureSet:
    features = FeaturesConfig(target="y", columns=columns)  # type: ignore[arg-type]
    return FeatureSet.from_config(features, schema_for(features, table)).fit(table)


TABLE = pa.table(
    {
        "size": [1.0, 3.0, None, 5.0],
        "colour": ["red", "blue", "red", None],
        "sold": [True, False, None, True],
        "day": ["2011-01-01", "2011-07-01", "2012-01-01", None],
        "y": [1.5, 2.0, 0.5, 4.0],
    }
)


def test_numbers_are_imputed_with_the_mean_and_standardised() -> None:
    fitted = fit(TABLE, size="numeric")
    spread = math.sqrt(8 / 3)
    expected = np.array([[-2 / spread], [0], [0], [2 / spread]], dtype=np.float32)
    assert np.array_equal(fitted.transform(TABLE), expected)


def test_numbers_can_be_imputed_with_zero_and_left_unscaled() -> None:
    fitted = fit(TABLE, size=NumericConfig(impute="zero", scale="none"))
    assert fitted.transform(TABLE)[:, 0].tolist() == [1.0, 3.0, 0.0, 5.0]


def test_a_number_far_out_stays_finite() -> None:
    fitted = fit(TABLE, size="numeric")
    assert fitted.row({"size": 1e99}).tolist() == [1e6]
    assert fitted.row({"size": -1e99}).tolist() == [-1e6]


def test_levels_are_one_hot_with_unknown_and_missing() -> None:
    fitted = fit(TABLE, colour="categorical")
    assert fitted.output_names == ("colour=blue", "colour=red", "colour=<unknown>", "colour=<missing>")
    assert fitted.transform(TABLE).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert fitted.row({"colour": "green"}).tolist() == [0, 0, 1, 0]
    assert fitted.row({"colour": True}).tolist() == [0, 0, 1, 0]


def test_true_is_not_the_level_one() -> None:
    fitted = fit(pa.table({"c": [1, 2, 1], "y": [1.0, 2.5, 3.0]}), c="categorical")
    assert fitted.row({"c": 1}).tolist() == [1, 0, 0, 0]
    assert fitted.row({"c": True}).tolist() == [0, 0, 1, 0]


def test_the_most_frequent_levels_are_kept_and_ties_go_by_name() -> None:
    table = pa.table({"c": ["d", "b", "c", "a", "a"], "y": [1.0, 2.5, 3.0, 4.0, 5.0]})
    fitted = fit(table, c=CategoricalConfig(max_levels=3))
    assert fitted.output_names == ("c=a", "c=b", "c=c", "c=<unknown>", "c=<missing>")
    assert fitted.row({"c": "d"}).tolist() == [0, 0, 0, 1, 0]


def test_a_missing_boolean_is_the_share_of_true() -> None:
    fitted = fit(TABLE, sold="boolean")
    assert fitted.transform(TABLE)[:, 0].tolist() == pytest.approx([1, 0, 2 / 3, 1])


def test_dates_become_their_parts_and_constant_parts_go() -> None:
    fitted = fit(TABLE, day=DatetimeConfig(parts=("year", "month", "hour")))
    assert fitted.output_names == ("day.year", "day.month.sin", "day.month.cos")
    numbers = fitted.transform(TABLE)
    assert numbers[:, 1:].round(6).tolist() == [[0, 1], [0, -1], [0, 1], [0, 0]]
    assert numbers[3].tolist() == [0, 0, 0]
    assert numbers[0, 0] < 0 < numbers[2, 0]


def test_a_regression_target_is_standardised() -> None:
    fitted = fit(TABLE, size="numeric")
    y = fitted.encode_target(TABLE)
    assert y.dtype == np.float32
    assert fitted.target_mean == 2.0
    assert (y * fitted.target_std + fitted.target_mean).tolist() == pytest.approx([1.5, 2.0, 0.5, 4.0])


def test_classes_become_their_index() -> None:
    table = pa.table({"x": [1.0, 2.0, 3.5], "y": [10, 9, 10]})
    fitted = fit(table, x="numeric")
    y = fitted.encode_target(table)
    assert (fitted.classes, y.dtype, y.tolist()) == (("9", "10"), np.dtype(np.int64), [1, 0, 1])
    assert fitted.encode_target(pa.table({"y": ["10.0", "9"]})).tolist() == [1, 0]
    assert (fitted.target_mean, fitted.target_std) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("target", "message"),
    [([10, 8], "row 1, column 'y': 8 is not one of the classes 9, 10"), ([10, None], "row 1, column 'y': None")],
)
def test_an_unusable_target_value_is_refused(target: list[object], message: str) -> None:
    fitted = fit(pa.table({"x": [1.0, 2.0, 3.5], "y": [10, 9, 10]}), x="numeric")
    with pytest.raises(RowError, match=message):
        fitted.encode_target(pa.table({"y": target}))
    with pytest.raises(SchemaError, match="no target column 'y'"):
        fitted.encode_target(pa.table({"z": target}))


def test_a_bad_value_in_a_table_is_named_by_its_row() -> None:
    fitted = fit(TABLE, size="numeric")
    table = pa.table({"size": pa.array(["1"] * 70_000 + ["many"])})
    with pytest.raises(RowError, match="row 70000, column 'size': 'many' is not a finite number"):
        fitted.transform(table)


def test_a_table_without_an_input_column_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"no column 'size'.*Did you mean 'sizes'"):
        fit(TABLE, size="numeric").transform(pa.table({"sizes": [1.0]}))


def test_an_absent_key_is_told_with_the_nearest_one_sent() -> None:
    with pytest.raises(RowError, match=r"row 0, column 'size': None found.*the row has 'sizes'"):
        fit(TABLE, size="numeric").row({"sizes": 1.0})


def test_a_row_takes_other_keys_and_numpy_values() -> None:
    fitted = fit(TABLE, size="numeric")
    assert fitted.row({"size": np.float32(3), "more": object()}).tolist() == [0.0]
    assert fitted.row({"size": np.int64(3)}).tolist() == [0.0]
    assert fitted.row({"size": True}).tolist() == fitted.row({"size": 1}).tolist()


def test_the_row_is_ours_to_change() -> None:
    fitted = fit(TABLE, size="numeric")
    row = fitted.row({"size": 3})
    row[0] = 7
    assert fitted.row({"size": 3}).tolist() == [0.0]


def test_a_constant_target_and_useless_inputs_are_refused() -> None:
    features = FeaturesConfig(target="y", task="regression", columns={"size": "numeric"})
    chosen = FeatureSet.from_config(features, schema_for(features, TABLE))
    with pytest.raises(DataError, match="'y' is 2 in every training row"):
        chosen.fit(pa.table({"size": [1.0, 2.0], "y": [2.0, 2.0]}))
    with pytest.raises(DataError, match="no rows"):
        chosen.fit(TABLE.slice(0, 0))
    dates = pa.table({"day": ["2011-01-01"] * 4, "y": TABLE["y"]})
    with pytest.raises(DataError, match="every column is constant"):
        fit(dates, day="datetime")


def test_a_declaration_must_match_the_schema() -> None:
    schema = schema_for(FeaturesConfig(target="y", columns={"size": "numeric"}), TABLE)
    with pytest.raises(ConfigError, match=r"features\.columns\.size is 'categorical'"):
        FeatureSet.from_config(FeaturesConfig(target="y", columns={"size": "categorical"}), schema)
    with pytest.raises(ConfigError, match="Did you mean 'size'"):
        FeatureSet.from_config(FeaturesConfig(target="y", columns={"siz": "numeric"}), schema)


@pytest.mark.parametrize("damage", [{}, {"format": 99}, {"format": 1}, {"format": 1, "schema": 3, "columns": [{}]}, []])
def test_a_damaged_state_is_refused(damage: object) -> None:
    with pytest.raises(SchemaError):
        FittedFeatureSet.from_json(damage)  # type: ignore[arg-type]


def test_the_serving_side_loads_no_heavy_package() -> None:
    code = (
        "import sys, rayline.features.transform as t; "
        "print([name for name in ('ray', 'torch', 'pandas', 'pyarrow', 'mlflow', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
