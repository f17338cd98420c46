"""The families of models as the conformance suite tries them: small tables on which each learns within a second."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rayline.config import CategoricalConfig, FeaturesConfig, ModelConfig, NumericConfig, Task, TrainConfig
from rayline.features.feature_set import FeatureSet
from rayline.features.schemas.inference import schema_for
from rayline.features.transform import FittedFeatureSet
from rayline.model import family_of
from rayline.training.spec import TrainData, TrainSpec

OWN_MODULE = """
from torch import nn


def build(inputs, outputs, width=16, layout=None):
    assert layout.width == inputs
    return nn.Sequential(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.GELU(), nn.Linear(width, outputs))
"""
CHANCE: dict[Task, float] = {"binary": 0.69, "multiclass": 1.09, "regression": 1.0}
"""The loss of whoever knows no more than how frequent each class, or the mean, is."""


@dataclass(frozen=True)
class Case:
    """One family at one task.

    Attributes:
        steps: whether it learns in steps, so that there are several epochs.
        bundled: whether its Bundle is tried: to export a program takes seconds, and one task of a family will do.
    """

    model: ModelConfig
    task: Task
    steps: bool = True
    bundled: bool = True
    train: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        return family_of(self.model.builder)

    @property
    def image(self) -> bool:
        return self.model.builder == "cnn"

    def __str__(self) -> str:
        return f"{self.model.builder.rpartition(':')[2]}-{self.task}"

    def spec(self, **train: Any) -> TrainSpec:
        features = fitted(self.task, self.image)
        rate = 0.01 if self.family == "torch" else 1e-3
        settings = {"epochs": 6, "batch_size": 32, "learning_rate": rate, "use_gpu": False, **self.train, **train}
        return TrainSpec(
            model=self.model,
            train=TrainConfig(**settings),
            task=self.task,
            classes=features.classes,
            layout=features.layout,
            target_mean=features.target_mean,
            target_std=features.target_std,
        )

    def data(self) -> TrainData:
        features, raw = fitted(self.task, self.image), table(self.task, self.image)
        x, y = features.transform(raw), features.encode_target(raw)
        cut = len(x) * 2 // 3
        return TrainData(train=(x[:cut], y[:cut]), valid=(x[cut:], y[cut:]))


def cases(own: str) -> list[Case]:
    """Every family at every task that it fits; ``own`` is the path of a user's builder."""
    found = []
    tasks: tuple[Task, ...] = ("binary", "multiclass", "regression")
    for task in tasks:
        found += [
            Case(ModelConfig(hidden=(16,), dropout=0.1), task),
            Case(residual_mlp(), task, bundled=task == "regression"),
            Case(ModelConfig(builder="cnn", options=CNN), task, bundled=task == "multiclass"),
            Case(ModelConfig(builder=own), task, bundled=task == "binary"),
            Case(ModelConfig(builder="xgboost", options=XGBOOST), task),
        ]
        for builder, options, steps in SKLEARN[task == "regression"]:
            found.append(Case(ModelConfig(builder=f"sklearn.{builder}", options=options), task, steps))
    return found


def residual_mlp() -> ModelConfig:
    return ModelConfig(builder="residual_mlp", options={"width": 16, "blocks": 1, "dropout": 0.1})


CNN = {"channels": [4], "hidden": 16}
XGBOOST = {"max_depth": 3, "eta": 0.3, "num_boost_round": 18, "subsample": 0.8, "colsample_bytree": 0.8}
HIST = {"max_iter": 18, "max_leaf_nodes": 7, "min_samples_leaf": 5, "learning_rate": 0.3}
SKLEARN: dict[bool, list[tuple[str, dict[str, Any], bool]]] = {
    False: [
        ("ensemble:HistGradientBoostingClassifier", HIST, True),
        ("ensemble:RandomForestClassifier", {"n_estimators": 30, "min_samples_leaf": 5}, True),
        ("linear_model:SGDClassifier", {"loss": "log_loss", "alpha": 0.01}, True),
        ("linear_model:LogisticRegression", {}, False),
    ],
    True: [
        ("ensemble:GradientBoostingRegressor", {"n_estimators": 30, "subsample": 0.8}, True),
        ("neural_network:MLPRegressor", {"hidden_layer_sizes": [16], "learning_rate_init": 0.01}, True),
        ("linear_model:Ridge", {}, False),
    ],
}


@cache
def table(task: Task, image: bool = False, rows: int = 300) -> pa.Table:
    """Numbers and a category that the target follows; or, as 16 numbers, an image with one bright half."""
    chance = np.random.default_rng(7)
    towns = np.array(["Bern", "Łódź", "Turku"])
    town = chance.integers(0, 3, rows)
    if image:
        bright = chance.normal(size=rows)
        pixels = 0.3 * chance.normal(size=(rows, 4, 4))
        pixels[:, :2] += bright[:, None, None]
        columns: dict[str, Any] = {f"p{at:02d}": pixels.reshape(rows, 16)[:, at] for at in range(16)}
        signal = bright + 0.2 * chance.normal(size=rows)
    else:
        columns = {name: chance.normal(size=rows) for name in ("a", "b", "c")}
        signal = 2 * columns["a"] + 0.7 * (town - 1) + 0.3 * chance.normal(size=rows)
    columns["town"] = towns[town]
    columns["y"] = signal
    if task != "regression":
        edges = [0.0] if task == "binary" else [-1.0, 1.0] if not image else [-0.5, 0.5]
        columns["y"] = np.array(["low", "mid", "top"])[np.digitize(signal, edges)]
    return pa.table(columns)


@cache
def fitted(task: Task, image: bool = False) -> FittedFeatureSet:
    """The features of ``table``, its category by the place of its level."""
    raw = table(task, image)
    columns: dict[str, Any] = {name: NumericConfig() for name in raw.column_names if name not in ("town", "y")}
    columns["town"] = CategoricalConfig(encode="index")
    config = FeaturesConfig(target="y", columns=columns)
    return FeatureSet.from_config(config, schema_for(config, raw)).fit(raw)


def bundle_parts(case: Case, checkpoint: Path) -> dict[str, Any]:
    """The arguments of ``write_bundle``, but for the place."""
    features = fitted(case.task, case.image)
    raw = table(case.task, case.image)
    return {
        "name": "model",
        "features": features,
        "model": case.model,
        "checkpoint": checkpoint,
        "lineage": {"data_digest": "d" * 32, "rows": {"train": raw.num_rows}},
        "reference": {"columns": {}},
        "example": raw.select(list(features.input_columns)).slice(0, 4).to_pylist(),
    }
