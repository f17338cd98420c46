"""A table handed over from Python goes through the flow like one in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray.data

from rayline import flow
from rayline.config import Config, DataConfig, FeaturesConfig, SplitConfig, TrainConfig
from rayline.errors import UsageError
from rayline.lineage import lineage

pytestmark = pytest.mark.usefixtures("ray_cluster", "mlflow_loaded")


def table() -> pa.Table:
    chance = np.random.default_rng(7)
    size = chance.normal(size=600)
    return pa.table({"size": size, "kind": chance.choice(["a", "b"], 600), "label": np.where(size > 0, "big", "small")})


def config_in(folder: Path) -> Config:
    return Config(
        name="handed",
        data=DataConfig(split=SplitConfig(valid=0.2)),
        features=FeaturesConfig(target="label"),
        train=TrainConfig(epochs=1),
        storage=str(folder / ".rayline"),
    )


def test_a_table_of_python_is_resumed_and_named_by_its_rows(tmp_path: Path) -> None:
    config = config_in(tmp_path)

    first = flow.run(config, data=table(), until="register")
    again = flow.run(config, data=table().to_pandas(), until="register")

    assert [(each.key, each.seconds) for each in again.steps] == [(each.key, each.seconds) for each in first.steps]
    assert sum(first.result("features")["rows"].values()) == 600
    found = lineage(config, "1").data
    assert found.now == "not known: it was handed over from Python"
    assert sum(found.rows.values()) == 600


def test_a_ray_dataset_gives_the_data_of_its_table(tmp_path: Path) -> None:
    config = config_in(tmp_path)

    of_table = flow.run(config, data=table(), until="features").result("features")
    of_dataset = flow.run(config, data=ray.data.from_arrow(table()), until="features").result("features")

    assert (of_dataset["digest"], of_dataset["rows"]) == (of_table["digest"], of_table["rows"])


@pytest.mark.parametrize("data", [7, "table.csv"])
def test_what_is_no_table_is_refused(data: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        flow.run(config_in(tmp_path), data=data)
