"""scikit-learn's transformers become features and features become theirs, with the same numbers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomTreesEmbedding
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)

from rayline.config import (
    BooleanConfig,
    CategoricalConfig,
    ColumnConfig,
    FeaturesConfig,
    FunctionConfig,
    NumericConfig,
    SklearnConfig,
)
from rayline.errors import ConfigError, DataError, RowError
from rayline.features.bridges.from_sklearn import from_sklearn
from rayline.features.feature_set import FeatureSet
from rayline.features.kinds.lookup import LookupColumn
from rayline.features.schemas.inference import schema_for
from rayline.features.transform import FittedFeatureSet

DATA = Path(__file__).parents[3].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")


def frame_of(rows: int = 500) -> pd.DataFrame:
    chance = np.random.default_rng(11)
    levels = np.array(["x", "y", "z", None], dtype=object)
    return pd.DataFrame(
        {
            "a": np.where(chance.random(rows) < 0.1, np.nan, chance.normal(size=rows)),
            "b": chance.gamma(2.0, size=rows) + 0.01,
            "e": chance.normal(5, 2, rows),
            "c": pd.Series(levels[chance.integers(0, 4, rows)], dtype=object),
            "g": pd.Series(np.array(["p", "q", "r"], dtype=object)[chance.integers(0, 3, rows)], dtype=object),
            "k": chance.integers(0, 9, rows),
            "y": chance.normal(size=rows),
        }
    )


FRAME = frame_of()
TABLE = pa.Table.from_pandas(FRAME, preserve_index=False)

OF_NUMBERS: dict[str, Any] = {
    "standard": StandardScaler(),
    "standard, mean only": StandardScaler(with_std=False),
    "standard, deviation only": StandardScaler(with_mean=False),
    "minmax": MinMaxScaler((-1, 3)),
    "minmax, cut": MinMaxScaler(clip=True),
    "max_abs": MaxAbsScaler(),
    "robust": RobustScaler(),
    "robust, spread only": RobustScaler(with_centering=False),
    "median": SimpleImputer(strategy="median", add_indicator=True),
    "missing": MissingIndicator(features="all"),
    "yeo-johnson": PowerTransformer(),
    "yeo-johnson, not standardised": PowerTransformer(standardize=False),
    "quantiles": QuantileTransformer(n_quantiles=20),
    "logarithm": FunctionTransformer(np.arcsinh),
    "nothing": FunctionTransformer(),
}
WITHOUT_GAPS: dict[str, Any] = {
    "box-cox": PowerTransformer(method="box-cox"),
    "bins": KBinsDiscretizer(4, encode="ordinal", strategy="uniform"),
    "bins, one each": KBinsDiscretizer(4, encode="onehot", strategy="uniform"),
    "polynomial": PolynomialFeatures(3, interaction_only=True, include_bias=False),
    "binary": Binarizer(threshold=0.5),
    "length": Normalizer(),
    "sum": Normalizer("l1"),
    "largest": Normalizer("max"),
    "union": FeatureUnion([("one", StandardScaler()), ("two", make_pipeline(MinMaxScaler(), PolynomialFeatures()))]),
}
BY_SKOPS: dict[str, Any] = {
    "components": PCA(1),
    "splines": SplineTransformer(3),
    "clusters": KMeans(2, n_init=1, random_state=0),
    "normal quantiles": QuantileTransformer(n_quantiles=20, output_distribution="normal"),
    "neighbours": make_pipeline(KNNImputer(), PCA(1)),
}


@pytest.mark.parametrize("name", [*OF_NUMBERS, *WITHOUT_GAPS, *BY_SKOPS])
def test_a_transformer_of_numbers_gives_the_same(name: str) -> None:
    columns = ["a", "b"] if name in OF_NUMBERS else ["b", "e"]
    positive = FRAME.assign(e=FRAME["e"].abs() + 0.1)
    transformer = clone({**OF_NUMBERS, **WITHOUT_GAPS, **BY_SKOPS}[name]).fit(positive[columns])
    table = pa.Table.from_pandas(positive, preserve_index=False)
    fitted = from_sklearn(transformer, table, "y")
    (column,) = fitted.columns
    assert ("skops" in column.to_json()) is (name in BY_SKOPS)
    expected = transformer.transform(positive[columns])
    expected = expected.toarray() if hasattr(expected, "toarray") else np.asarray(expected, dtype=np.float64)
    found = fitted.transform(table)
    valued = np.isfinite(expected)
    np.testing.assert_allclose(found[valued], expected[valued], rtol=1e-6, atol=1e-6)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(fitted.rows(table.slice(0, 30).to_pylist()), found[:30], rtol=1e-6, atol=1e-6)
    restored = FittedFeatureSet.from_json(json.loads(json.dumps(fitted.to_json())))
    assert np.array_equal(restored.transform(table), found)


def test_a_column_transformer_gives_the_same_by_the_same_members() -> None:
    transformer = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
                ["a", "b"],
            ),
            ("rare", OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=60), ["g", "k"]),
            ("first", make_pipeline(_fill(), OneHotEncoder(handle_unknown="ignore", drop="first")), ["c"]),
            ("order", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["g"]),
            ("gaps", OrdinalEncoder(encoded_missing_value=-2), ["c"]),
            ("means", TargetEncoder(target_type="continuous"), ["g"]),
            ("power", PowerTransformer(), slice("b", "e")),
            ("components", make_pipeline(SimpleImputer(), PCA(2)), [0, 1, 2]),
            ("gone", "drop", ["e"]),
        ],
        remainder="passthrough",
    )
    raw = FRAME.drop(columns="y").assign(left=FRAME["e"] * 2)
    transformer.fit(raw, FRAME["y"])
    table = pa.Table.from_pandas(raw.assign(y=FRAME["y"]), preserve_index=False)
    fitted = from_sklearn(transformer, table, "y")
    expected = transformer.transform(raw)
    np.testing.assert_allclose(fitted.transform(table), expected.astype(np.float32), rtol=1e-6, atol=1e-6)
    assert len(set(fitted.output_names)) == fitted.width == expected.shape[1]
    assert fitted.output_names[:3] == ("numbers.a", "numbers.b", "numbers.missingindicator_a")
    fresh = raw.head(1).assign(g="never", k=77, c=None)
    row = {**fresh.iloc[0].to_dict(), "c": None}
    with pytest.raises(RowError, match="row 0, column 'c': 'never' is not one of the levels"):
        fitted.row({**row, "c": "never"})
    np.testing.assert_allclose(fitted.row(row), transformer.transform(fresh)[0], rtol=1e-6, atol=1e-6)


def _fill() -> SimpleImputer:
    return SimpleImputer(strategy="most_frequent", missing_values=None)


def test_an_array_fit_needs_names() -> None:
    scaler = StandardScaler().fit(FRAME[["b", "e"]].to_numpy())
    with pytest.raises(ConfigError, match=r"give columns=\[\.\.\.\]"):
        from_sklearn(scaler, TABLE, "y")
    fitted = from_sklearn(scaler, TABLE, "y", columns=["b", "e"])
    np.testing.assert_allclose(fitted.transform(TABLE), scaler.transform(FRAME[["b", "e"]].to_numpy()), rtol=1e-6)
    masked = ColumnTransformer([("chosen", "passthrough", [True, False])]).fit(FRAME[["b", "e"]])
    assert np.array_equal(from_sklearn(masked, TABLE, "y").transform(TABLE)[:, 0], FRAME["b"].astype(np.float32))


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (ColumnTransformer([("k", make_pipeline(OneHotEncoder(), MaxAbsScaler()), ["g"])]), "nothing may follow it"),
        (make_pipeline(ColumnTransformer([("n", StandardScaler(), ["b"])]), MinMaxScaler()), "Pipeline with Column"),
        (ColumnTransformer([("n", "drop", ["b"])]), "gives no column"),
        (ColumnTransformer([("n", StandardScaler(), ["b"])], transformer_weights={"n": 2}), "transformer_weights"),
        (ColumnTransformer([("t", RandomTreesEmbedding(2), ["b"])]), r"'t' \(RandomTreesEmbedding\).*Tree.*own"),
        (ColumnTransformer([("f", FunctionTransformer(lambda x: x * 2), ["b"])]), "'f'.*without pickle"),
    ],
)
def test_what_cannot_be_taken_in_is_named(transformer: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_sklearn(transformer.fit(FRAME[["b", "g"]]), TABLE, "y")


def test_levels_that_are_one_here_are_refused() -> None:
    raw = pd.DataFrame({"g": pd.Series(["1", "01", "x", "1"], dtype=object)})
    table = pa.table({"g": ["1", "01", "x", "1"], "y": [1.0, 2.5, 3.5, 4.0]})
    with pytest.raises(ConfigError, match="both read '1'"):
        from_sklearn(OrdinalEncoder().fit(raw), table, "y")


def kind(transformer: str, inputs: tuple[str, ...] = ("a", "b"), **options: Any) -> FittedFeatureSet:
    setting = SklearnConfig(transformer=transformer, inputs=inputs, options=options)
    features = FeaturesConfig(target="y", columns={"s": setting})
    return FeatureSet.from_config(features, schema_for(features, TABLE)).fit(TABLE)


def test_the_kind_fits_on_the_training_rows() -> None:
    fitted = kind("sklearn.preprocessing:StandardScaler")
    assert fitted.output_names == ("s.a", "s.b")
    expected = StandardScaler().fit_transform(FRAME[["a", "b"]])
    np.testing.assert_allclose(fitted.transform(TABLE), np.nan_to_num(expected), rtol=1e-5, atol=1e-6)
    components = kind("sklearn.decomposition:PCA", n_components=2)
    filled = FRAME[["a", "b"]].fillna(FRAME[["a", "b"]].mean())
    expected = PCA(2, random_state=0).fit(filled).transform(filled)
    np.testing.assert_allclose(components.transform(TABLE), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("transformer", "options", "error", "message"),
    [
        ("mine.module:Scaler", {}, ConfigError, "must be one of scikit-learn's"),
        ("sklearn.preprocessing:StandardScalar", {}, ConfigError, "Did you mean 'StandardScaler'"),
        ("sklearn.preprocessing:scale", {}, ConfigError, "no class with fit and transform"),
        ("sklearn.preprocessing:StandardScaler", {"with_men": True}, ConfigError, "with_men"),
        ("sklearn.preprocessing:TargetEncoder", {}, ConfigError, "learns from the target"),
        ("sklearn.ensemble:RandomTreesEmbedding", {}, ConfigError, "without pickle.*Tree"),
        ("sklearn.decomposition:PCA", {"n_components": 5}, DataError, "cannot be fitted on 500 training rows"),
    ],
)
def test_a_transformer_that_cannot_be_used_is_told(
    transformer: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kind(transformer, **options)


EXPRESSED: dict[str, ColumnConfig] = {
    "standard": NumericConfig(source="n"),
    "median": NumericConfig(source="n", impute="median", scale="robust", flag=True),
    "minmax": NumericConfig(source="n", impute=3.0, scale="minmax"),
    "log": NumericConfig(source="n", log=True, clip=(-5, 50)),
    "plain": NumericConfig(source="n", impute="zero", scale="none"),
    "shares": NumericConfig(source="n", scale="quantile"),
    "bins": NumericConfig(source="n", bins=4, flag=True),
    "whole": NumericConfig(),
    "level": CategoricalConfig(max_levels=3),
    "sold": BooleanConfig(),
    "formula": FunctionConfig(function="log1p(abs(n)) * sold", inputs=("n", "sold")),
    "kept": SklearnConfig(transformer="sklearn.preprocessing:PolynomialFeatures", inputs=("n", "whole")),
}
ROW = st.fixed_dictionaries(
    {
        "n": st.none() | st.floats(-1e6, 1e6, width=32) | st.sampled_from([1e99, -1e99, 0.0, 7.0]),
        "whole": st.integers(-5, 5),
        "level": st.none() | st.sampled_from(["a", "b", "c", "d", "e", "<missing>", "1", "1.0"]),
        "sold": st.none() | st.booleans(),
        "y": st.floats(0, 1),
    }
)
TYPES = pa.schema({"n": pa.float64(), "whole": pa.int64(), "level": pa.string(), "sold": pa.bool_(), "y": pa.float64()})


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=TYPES)


# A smaller example is not worth the thousand fits that finding it takes.
@settings(max_examples=20, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(known=st.lists(ROW, min_size=1, max_size=30), rows=st.lists(ROW, min_size=1, max_size=20))
def test_features_as_scikit_learn_give_the_same(known: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    base = [{"n": n, "whole": w, "level": "a", "sold": w > 1, "y": n} for n, w in ((0.0, 1), (1.0, 2), (2.0, 3))]
    table = table_of([*base, *known])
    features = FeaturesConfig(target="y", task="regression", columns=dict(EXPRESSED))
    fitted = FeatureSet.from_config(features, schema_for(features, table)).fit(table)
    transformer = fitted.to_sklearn()
    asked = table_of(rows)
    found = transformer.transform(asked.to_pandas())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, fitted.transform(asked), rtol=1e-6, atol=1e-6)


def fitted_frame() -> tuple[FittedFeatureSet, pd.DataFrame]:
    columns: dict[str, ColumnConfig] = {
        "a": NumericConfig(flag=True),
        "size": NumericConfig(source="b", bins=3),
        "k": CategoricalConfig(),
        "g": CategoricalConfig(),
    }
    features = FeaturesConfig(target="y", columns=columns)
    return FeatureSet.from_config(features, schema_for(features, TABLE)).fit(TABLE), FRAME


def test_it_is_an_element_of_a_pipeline_that_fits_again_and_keeps_our_numbers() -> None:
    fitted, frame = fitted_frame()
    transformer = fitted.to_sklearn()
    assert isinstance(transformer, Pipeline)
    assert tuple(transformer.get_feature_names_out()) == fitted.output_names
    expected = fitted.transform(TABLE)
    whole = make_pipeline(transformer, LinearRegression()).fit(frame.head(50), frame["y"].head(50))
    assert np.array_equal(whole[0].transform(frame), expected)
    assert whole.predict(frame).shape == (len(frame),)
    assert np.array_equal(clone(transformer).fit(frame.tail(20)).transform(frame), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(transformer)).transform(frame), expected)


def test_pandas_types_of_all_sorts_are_read_alike() -> None:
    fitted, frame = fitted_frame()
    other = frame.astype({"a": "Float64", "k": "category", "g": "category"})
    assert np.array_equal(fitted.to_sklearn().transform(other), fitted.transform(TABLE))


def test_what_scikit_learn_has_no_element_for_is_listed_or_left_out() -> None:
    table = TABLE.append_column("day", pa.array(["2011-01-01", "2012-07-09"] * (TABLE.num_rows // 2)))
    features = FeaturesConfig(target="y", columns={"b": "numeric", "day": "datetime"})
    fitted = FeatureSet.from_config(features, schema_for(features, table)).fit(table)
    with pytest.raises(ConfigError, match=r"no element for 'day' \(datetime\).*partial=True"):
        fitted.to_sklearn()
    part = fitted.to_sklearn(partial=True)
    assert tuple(part.get_feature_names_out()) == ("b",)
    assert np.array_equal(part.transform(FRAME)[:, 0], fitted.transform(table)[:, 0])


def test_there_and_back_again() -> None:
    encoder = OneHotEncoder(handle_unknown="ignore").fit(FRAME[["g"]])
    fitted = from_sklearn(encoder, TABLE, "y")
    assert isinstance(fitted.columns[0], LookupColumn)
    assert fitted.output_names == ("onehotencoder.g_p", "onehotencoder.g_q", "onehotencoder.g_r")
    assert np.array_equal(fitted.to_sklearn().transform(FRAME), fitted.transform(TABLE))


@needs_data
def test_bike_rentals_through_scikit_learn() -> None:
    table = pyarrow.csv.read_csv(DATA / "bike_hour.csv")
    frame = table.to_pandas()
    transformer = ColumnTransformer(
        [
            ("levels", OneHotEncoder(handle_unknown="ignore"), ["season", "weathersit", "hr"]),
            ("numbers", make_pipeline(SimpleImputer(), RobustScaler()), ["temp", "hum"]),
            ("power", PowerTransformer(), ["windspeed"]),
        ]
    ).fit(frame)
    fitted = from_sklearn(transformer, table, "cnt")
    expected = transformer.transform(frame)
    expected = expected.toarray() if hasattr(expected, "toarray") else expected
    np.testing.assert_allclose(fitted.transform(table), expected, rtol=1e-6, atol=1e-6)
    features = FeaturesConfig(
        target="cnt",
        columns={
            "temp": "numeric",
            "hr": "categorical",
            "dry": FunctionConfig(function="temp - hum", inputs=("temp", "hum")),
        },
    )
    ours = FeatureSet.from_config(features, schema_for(features, table)).fit(table)
    np.testing.assert_allclose(ours.to_sklearn().transform(frame), ours.transform(table), rtol=1e-6, atol=1e-6)
