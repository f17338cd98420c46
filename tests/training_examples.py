"""Small training inputs for tests: made ones that learn within seconds, and a real table of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rayline.config import Config, DataConfig, FeaturesConfig, ModelConfig, Space, Task, TrainConfig, TuneConfig
from rayline.model import InputLayout
from rayline.training.context import Listener, Place, TrainContext
from rayline.training.families import fit
from rayline.training.spec import TrainData, TrainResult, TrainSpec

CLASSES: dict[Task, tuple[str, ...]] = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}


def made_data(task: Task = "binary", rows: int = 240, inputs: int = 4) -> TrainData:
    """Return a learnable table: the answer follows the first column, with noise; two thirds are for training."""
    chance = np.random.default_rng(7)
    x = chance.normal(size=(rows, inputs)).astype(np.float32)
    signal = x[:, 0] + 0.3 * chance.normal(size=rows)
    y: Any = signal.astype(np.float32)
    if task == "binary":
        y = (signal > 0).astype(np.int64)
    if task == "multiclass":
        y = np.digitize(signal, [-0.5, 0.5]).astype(np.int64)
    cut = rows * 2 // 3
    return TrainData(train=(x[:cut], y[:cut]), valid=(x[cut:], y[cut:]))


def broken_data(task: Task = "binary") -> TrainData:
    """Return a table with one training row of NaN: the loss is not finite in the epoch's step that meets it."""
    data = made_data(task)
    x = data.train[0].copy()
    x[17] = np.nan
    return TrainData(train=(x, data.train[1]), valid=data.valid)


def breast_cancer() -> TrainData:
    """Return scikit-learn's table of 569 rows and 30 features, standardised, with every fourth row for validation."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    y = y.astype(np.int64)
    held = np.arange(len(y)) % 4 == 0
    return TrainData(train=(x[~held], y[~held]), valid=(x[held], y[held]))


def spec_of(
    task: Task = "binary", inputs: int = 4, model: ModelConfig | None = None, target_std: float = 1.0, **train: Any
) -> TrainSpec:
    """Return what to train: a small network, unless told otherwise, on the CPU."""
    settings = {"epochs": 3, "batch_size": 32, "learning_rate": 0.01, "use_gpu": False, **train}
    return TrainSpec(
        model=model or ModelConfig(hidden=(8,)),
        train=TrainConfig(**settings),
        task=task,
        classes=CLASSES[task],
        layout=InputLayout.plain(inputs),
        target_mean=0.0,
        target_std=target_std,
    )


def study_config(space: Mapping[str, Space], spec: TrainSpec | None = None, **tune: Any) -> Config:
    """Return a configuration whose Study searches ``space``."""
    spec = spec or spec_of()
    return Config(
        name="study",
        data=DataConfig(source="unused.csv"),
        features=FeaturesConfig(target="y"),
        model=spec.model,
        train=spec.train,
        tune=TuneConfig(space=dict(space), **tune),
    )


def fit_here(
    spec: TrainSpec,
    data: TrainData,
    out: Path,
    on_epoch: Listener = lambda report: None,
    place: Place | None = None,
) -> TrainResult:
    """Train in this process, from the last checkpoint of ``out`` on where there is one."""
    return fit(TrainContext(spec, data, out, on_epoch, place or Place()))
