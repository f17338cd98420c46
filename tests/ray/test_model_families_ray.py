"""XGBoost in a group of workers: each learns from its share of the rows, and all end with the same trees."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rayline.config import ModelConfig
from rayline.registry.networks.booster import BoosterNetwork
from rayline.training.metrics import measure
from rayline.training.spec import EpochReport
from rayline.training.trainer import train
from training_examples import made_data, spec_of

OPTIONS = {"num_boost_round": 12, "max_depth": 3, "subsample": 0.9}


def test_two_workers_learn_one_booster_from_all_rows(ray_cluster: None, tmp_path: Path) -> None:
    spec = spec_of(
        "multiclass", model=ModelConfig(builder="xgboost", options=OPTIONS), epochs=4, patience=0, num_workers=2
    )
    data, told = made_data("multiclass"), list[EpochReport]()

    result = train(spec, data, tmp_path / "run", told.append)

    assert [report.epoch for report in told] == [1, 2, 3, 4]
    assert told[-1].metrics["train_loss"] < 0.7 * told[0].metrics["train_loss"]
    assert result.metrics["valid_loss"] < 0.8
    network = BoosterNetwork.from_json((result.checkpoint / "model.json").read_bytes(), 4, 3, "multiclass", "kept")
    found = measure("multiclass", network(data.valid[0]), data.valid[1], 1.0)
    np.testing.assert_allclose(found["loss"], result.metrics["valid_loss"], rtol=1e-6)
    # The training loss is that of all rows, not of one worker's share.
    outputs = network(data.train[0])
    whole = measure("multiclass", outputs, data.train[1], 1.0)["loss"]
    np.testing.assert_allclose(result.history[result.best_epoch - 1].metrics["train_loss"], whole, rtol=1e-5)
