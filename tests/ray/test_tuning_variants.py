"""Trials that share features share the data: one transform for each features configuration, on no processor of Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from rayline import config
from rayline.config import Config, with_values
from rayline.errors import DataError
from rayline.features.pipeline import Prepared, prepare
from rayline.project import Project
from rayline.training.spec import TrainData
from rayline.tuning.variants import Variants

pytestmark = pytest.mark.usefixtures("ray_cluster")

DATA = Path(__file__).parents[2].parent / "shared" / "data"
COLUMNS = {
    "hr": "numeric",
    "season": "categorical",
    "weathersit": {"kind": "categorical", "encode": "target"},
    "temp": {"kind": "numeric", "scale": "robust"},
    "workingday": "boolean",
}


def key_of(settings: Config) -> str:
    return Project(settings).key("features")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Prepared]:
    """Prepare a real table once."""
    if not DATA.is_dir():
        pytest.skip("the shared data sets are not here")
    folder = tmp_path_factory.mktemp("bike")
    file = folder / "rayline.yaml"
    features = {"target": "cnt", "columns": COLUMNS}
    file.write_text(json.dumps({"name": "bike", "data": {"source": str(DATA / "bike_hour.csv")}, "features": features}))
    settings = config.load(file)
    return settings, prepare(settings, folder / "features" / key_of(settings))


def variants_of(base: tuple[Config, Prepared], budget: float = 1e9) -> tuple[Variants, list[TrainData]]:
    put: list[TrainData] = []

    def keep(data: TrainData) -> Any:
        put.append(data)
        return ray.put(data)

    return Variants(base[1], base[0], key_of, keep, budget), put


@pytest.fixture
def no_processor_is_free() -> Any:
    """Hold every processor of the cluster, as the warm workers of a Study do."""

    @ray.remote(num_cpus=2)
    class Busy:
        def ready(self) -> bool:
            return True

    busy = Busy.remote()
    assert ray.get(busy.ready.remote(), timeout=60)
    yield
    ray.kill(busy)


@pytest.mark.usefixtures("no_processor_is_free")
def test_each_features_configuration_is_computed_once_though_no_processor_is_free(
    base: tuple[Config, Prepared],
) -> None:
    settings, _ = base
    variants, put = variants_of(base)
    trials = [
        {"train.learning_rate": 0.1},
        {"features.columns.hr.kind": "categorical"},
        {"features.columns.hr.kind": "categorical", "train.epochs": 3},
        {"features.columns.hr.scale": "standard"},  # what it is anyway
        {"features.columns.season.use": False},
        {"features.drop": ["season"]},
        {"features.columns.hr.kind": "categorical", "features.columns.season.use": False},
        {"features.columns.season.use": False, "train.epochs": 4},
    ]
    found = [variants.data_for(with_values(settings, params)) for params in trials]
    references = [reference for _, reference in found]
    assert variants.transforms == 4
    assert len(put) == 5
    assert references[1] is references[2]
    assert references[0] is references[3]
    assert references[4] is references[7]
    for spec, reference in found:
        assert ray.get(reference).train[0].shape[1] == spec.inputs
    assert [spec.train.epochs for spec, _ in found] == [30, 30, 3, 30, 30, 30, 30, 4]
    assert len({spec.inputs for spec, _ in found}) == 4

    again, _ = variants_of(base)
    again.data_for(with_values(settings, trials[1]))
    assert again.transforms == 0


def test_a_variant_is_what_the_features_step_would_make(base: tuple[Config, Prepared], tmp_path: Path) -> None:
    settings, _ = base
    variants, _ = variants_of(base)
    chosen = with_values(
        settings,
        {
            "features.columns.hr.kind": "categorical",
            "features.columns.hr.encode": "target",
            "features.columns.temp.bins": 5,
            "features.columns.season.use": False,
        },
    )
    ours, alone = variants.prepared_for(chosen), prepare(chosen, tmp_path / "alone" / "features")
    assert ours.features == alone.features
    assert ours.facts == alone.facts
    assert ours.reference() == alone.reference()
    for one, other in ((ours.train(), alone.train()), (ours.valid(), alone.valid()), (ours.sample(), alone.sample())):
        np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(ours.train()[0], alone.train()[0])
    assert ours.test_table().equals(alone.test_table())


def test_a_column_that_the_base_leaves_out_can_come_in(base: tuple[Config, Prepared]) -> None:
    settings, _ = base
    variants, _ = variants_of(base)
    chosen = with_values(settings, {"features.columns": {**COLUMNS, "hum": "numeric"}})
    assert "hum" in variants.prepared_for(chosen).features.input_columns


def test_only_so_much_is_kept_in_the_object_store(base: tuple[Config, Prepared]) -> None:
    settings, _ = base
    variants, put = variants_of(base, budget=0.0)
    one, other = {"train.epochs": 1}, {"features.columns.season.use": False}
    first = variants.data_for(with_values(settings, one))[1]
    variants.data_for(with_values(settings, other))
    assert ray.get(first).train[0].shape[0]  # whoever holds it still has it
    variants.data_for(with_values(settings, one))
    variants.data_for(with_values(settings, one))
    assert len(put) == 3
    variants.close()
    variants.data_for(with_values(settings, one))
    assert len(put) == 4


def test_a_column_that_cannot_be_read_as_another_kind_is_refused(base: tuple[Config, Prepared], tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    lines = [
        f"{number % 7},{'x' if number % 50 == 0 else number % 5},{number % 3 * 1.5 + number / 97}"
        for number in range(300)
    ]
    table.write_text("\n".join(["a,b,y", *lines]) + "\n")
    raw = {
        "name": "t",
        "data": {"source": str(table)},
        "features": {"target": "y", "columns": {"a": "numeric", "b": "categorical"}},
        "validate": {"policies": {"type": "quarantine"}},
        "storage": str(tmp_path / "state"),
    }
    settings = config.parse(raw)
    prepared = prepare(settings, tmp_path / "features" / key_of(settings))
    variants, _ = variants_of((settings, prepared))
    with pytest.raises(DataError, match="column 'b' cannot be read so: 'x' is not a finite number"):
        variants.data_for(with_values(settings, {"features.columns.b.kind": "numeric"}))
