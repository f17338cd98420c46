"""Small bundles for tests: real tables of scikit-learn, and a mixed one with every kind of column and gaps."""

from __future__ import annotations

import datetime as dt
import itertools
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from rayline.config import DataConfig, FeaturesConfig, ModelConfig, parse
from rayline.features.feature_set import FeatureSet
from rayline.features.schemas.inference import infer
from rayline.features.sources import read_table
from rayline.features.transform import FittedFeatureSet
from rayline.model import outputs_for
from rayline.registry.bundle import Bundle, write_bundle

REAL = {"binary": "sklearn:breast_cancer", "multiclass": "sklearn:iris", "regression": "sklearn:diabetes"}
USER_MODULE = """
import torch


class Gated(torch.nn.Module):
    def __init__(self, inputs, outputs, width):
        super().__init__()
        self.into = torch.nn.Linear(inputs, width)
        self.norm = torch.nn.BatchNorm1d(width)
        self.gate = torch.nn.Linear(inputs, width)
        self.drop = torch.nn.Dropout(0.5)
        self.out = torch.nn.Linear(width, outputs)

    def forward(self, x):
        state = self.drop(self.norm(self.into(x)) * torch.sigmoid(self.gate(x)))
        return self.out(state.view(x.shape[0], 2, -1).flatten(1))


def build(inputs, outputs, width=8):
    return Gated(inputs, outputs, width)
"""


@cache
def real_table(task: str) -> pa.Table:
    """A bundled real table with the column ``target``."""
    return read_table(DataConfig(source=REAL[task]))


@cache
def mixed_table(rows: int = 120) -> pa.Table:
    """Every kind of column, with gaps where a kind may have them, and the number ``target``."""
    steps = range(rows)
    return pa.table(
        {
            "size": pa.array([None if step % 11 == 3 else step * 0.37 - 9 for step in steps], pa.float64()),
            "count": pa.array([step * 7 % 23 for step in steps], pa.int64()),
            "gappy": pa.array([None if step % 5 == 1 else step * 3 % 17 * 100 for step in steps], pa.int64()),
            "town": pa.array([None if step % 13 == 5 else ("Bern", "Łódź", "x y")[step % 3] for step in steps]),
            "grade": pa.array([1 + step % 4 for step in steps], pa.int64()),
            "open": pa.array([None if step % 9 == 2 else step % 2 == 0 for step in steps], pa.bool_()),
            "at": pa.array([dt.datetime(2024, 1, 1) + dt.timedelta(hours=7 * step) for step in steps]),
            "target": pa.array([step * 1.5 + step % 7 * 10 for step in steps], pa.float64()),
        }
    )


def fitted(table: pa.Table, target: str = "target") -> FittedFeatureSet:
    """The inferred features of a table, fitted on all of it."""
    return FeatureSet.from_config(FeaturesConfig(target=target), infer(table, target).schema).fit(table)


def weights(inputs: int, outputs: int, hidden: tuple[int, ...] = (16, 8), seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of an untrained MLP, as its checkpoint names them."""
    random = np.random.default_rng(seed)
    widths = [inputs, *hidden, outputs]
    tensors = {}
    for index, (before, after) in enumerate(itertools.pairwise(widths)):
        tensors[f"layers.{index}.weight"] = random.normal(0, before**-0.5, (after, before)).astype(np.float32)
        tensors[f"layers.{index}.bias"] = random.normal(0, 0.1, after).astype(np.float32)
    return tensors


def make_bundle(folder: Path, table: pa.Table, *, name: str = "model", seed: int = 0, **given: Any) -> Bundle:
    """Write a bundle of an untrained MLP below ``folder``."""
    features = fitted(table)
    checkpoint = folder / f"checkpoint-{seed}"
    checkpoint.mkdir(parents=True)
    tensors = weights(features.width, outputs_for(features.task, features.classes), seed=seed)
    save_file(tensors, checkpoint / "model.safetensors")
    return write_bundle(folder / f"bundle-{seed}", **parts(features, table, checkpoint, name) | given)


def parts(features: FittedFeatureSet, table: pa.Table, checkpoint: Path, name: str = "model") -> dict[str, Any]:
    """The arguments of ``write_bundle``, but for the place."""
    return {
        "name": name,
        "features": features,
        "model": model_config(hidden=[16, 8]),
        "checkpoint": checkpoint,
        "lineage": {"data_digest": "d" * 32, "rows": {"train": table.num_rows}},
        "reference": {"columns": {}},
        "example": table.select(list(features.input_columns)).slice(0, 4).to_pylist(),
    }


def model_config(**values: Any) -> ModelConfig:
    """The typed ``model`` section of a configuration."""
    sections = {"name": "x", "data": {"source": "x"}, "features": {"target": "x"}, "model": values}
    return parse(sections).model
