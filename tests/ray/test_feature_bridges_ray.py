"""Ray Data's fitted preprocessors become features that give the same numbers as Ray does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import ray.data
from ray.data.preprocessors import (
    Chain,
    Concatenator,
    FeatureHasher,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    SimpleImputer,
    StandardScaler,
)

from rayline.config import FeaturesConfig, FunctionConfig, SklearnConfig
from rayline.errors import ConfigError, RowError
from rayline.features.blocks import in_blocks, quiet
from rayline.features.bridges.from_ray import from_ray
from rayline.features.feature_set import FeatureSet
from rayline.features.schemas.inference import schema_for

pytestmark = pytest.mark.usefixtures("ray_cluster")

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")


def chilly(temp: Any, chill: Any, wind: Any) -> Any:
    """What a user writes beside the configuration; Ray's workers import it by name."""
    return np.where(wind > 0.1, (temp - chill) / wind, temp - chill)


@pytest.fixture(scope="module")
def bikes() -> pa.Table:
    whole = pyarrow.csv.read_csv(DATA / "bike_hour.csv")
    table = whole.take(pa.array(range(0, whole.num_rows, 5)))
    chance = np.random.default_rng(7)
    gaps = pa.array(chance.random(table.num_rows) < 0.1)
    places = np.array(["north", "south", None], dtype=object)[chance.integers(0, 3, table.num_rows)]
    return table.append_column("chill", pa.compute.if_else(gaps, None, table["atemp"])).append_column("place", [places])


def exact_quartiles(scaler: RobustScaler, dataset: ray.data.Dataset) -> RobustScaler:
    """Fit as Ray does, but for its sketch: that needs a package which Ray does not bring."""
    scaler.stats_ = {}
    for name in scaler._columns:
        low, middle, high = np.quantile(dataset.to_pandas()[name], [0.25, 0.5, 0.75]).tolist()
        scaler.stats_ |= {f"low_quantile({name})": low, f"median({name})": middle, f"high_quantile({name})": high}
    return scaler


@needs_data
def test_a_chain_gives_the_same_numbers_in_the_same_order(bikes: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RobustScaler, "_fit", exact_quartiles)
    chain = Chain(
        SimpleImputer(columns=["chill"]),
        SimpleImputer(columns=["place"], strategy="constant", fill_value="nowhere"),
        StandardScaler(columns=["chill", "temp"]),
        MinMaxScaler(columns=["hum"]),
        MaxAbsScaler(columns=["windspeed"], output_columns=["wind"]),
        RobustScaler(columns=["atemp"]),
        OneHotEncoder(columns=["season", "place"], output_columns=["season", "place_levels"]),
        OrdinalEncoder(columns=["weathersit"]),
        MinMaxScaler(columns=["weathersit"]),
        Concatenator(
            columns=["season", "hum", "chill", "temp", "wind", "windspeed", "atemp", "place_levels", "weathersit"],
            flatten=True,
        ),
    )
    with quiet():
        dataset = ray.data.from_arrow(bikes)
        made = chain.fit(dataset).transform(dataset).to_pandas()["concat_out"]
    fitted = from_ray(chain, bikes, "cnt")
    found = fitted.transform(bikes)
    np.testing.assert_allclose(found, np.stack(made.to_numpy()), rtol=1e-6, atol=1e-6)
    assert fitted.output_names[:5] == ("season=1", "season=2", "season=3", "season=4", "hum")
    rows = bikes.slice(0, 200).to_pylist()
    assert np.array_equal(fitted.rows(rows), found[:200])
    assert not fitted.row({**rows[0], "season": 9})[:4].any()
    with pytest.raises(RowError, match="column 'weathersit': 7 is not one of the levels"):
        fitted.row({**rows[0], "weathersit": 7})
    with pytest.raises(RowError, match="column 'season': None"):
        fitted.row({**rows[0], "season": None})


@needs_data
def test_preprocessors_alone_give_what_they_made(bikes: pa.Table) -> None:
    with quiet():
        scaler = StandardScaler(columns=["temp", "hum"]).fit(ray.data.from_arrow(bikes))
    fitted = from_ray(scaler, bikes, "cnt")
    assert fitted.output_names == ("temp", "hum")
    expected = scaler.transform_batch(bikes.select(["temp", "hum"]).to_pandas())
    np.testing.assert_allclose(fitted.transform(bikes), expected.to_numpy(), rtol=1e-6, atol=1e-6)


@needs_data
def test_what_is_not_known_is_named(bikes: pa.Table) -> None:
    with pytest.raises(ConfigError, match=r"FeatureHasher cannot be taken in. Known: Chain, Concatenator"):
        from_ray(FeatureHasher(columns=["temp"], num_features=2, output_column="h"), bikes, "cnt")
    after = Chain(Concatenator(columns=["temp"]), Concatenator(columns=["hum"]))
    with pytest.raises(ConfigError, match="put the Concatenator last"):
        from_ray(after, bikes, "cnt")


@needs_data
def test_functions_and_transformers_fit_on_workers_as_here(bikes: pa.Table) -> None:
    features = FeaturesConfig(
        target="cnt",
        columns={
            "chilly": FunctionConfig(function=f"{__name__}:chilly", inputs=("temp", "chill", "windspeed")),
            "power": SklearnConfig(transformer="sklearn.preprocessing:PowerTransformer", inputs=("hum", "chill")),
        },
    )
    chosen = FeatureSet.from_config(features, schema_for(features, bikes))
    assert chosen.fit(in_blocks(bikes, 900)).to_json() == chosen.fit(bikes).to_json()
