"""Bundles with arrays among their columns: a vector, an image, and one of every other kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from rayline.config import FeaturesConfig, ImageConfig, TextConfig, VectorConfig
from rayline.features.feature_set import FeatureSet
from rayline.features.schemas.schema import ColumnSchema, Schema
from rayline.registry.bundle import Bundle, write_bundle
from registry_examples import parts, weights

COLUMNS = (
    ColumnSchema("price", "numeric", minimum=0.0, maximum=9.5),
    ColumnSchema("embedding", "vector", shape=(3,)),
    ColumnSchema("photo", "image", shape=(2, 2, 1)),
    ColumnSchema("words", "text"),
)


def array_table(rows: int = 40) -> pa.Table:
    """Return a table with the columns, and the class ``target``."""
    steps = range(rows)
    random = np.random.default_rng(7)
    return pa.table(
        {
            "price": pa.array([step % 20 * 0.5 for step in steps], pa.float64()),
            "embedding": pa.array(random.normal(size=(rows, 3)).tolist(), pa.list_(pa.float64())),
            "photo": pa.array(random.integers(0, 255, (rows, 2, 2, 1)).tolist()),
            "words": pa.array([f"red car {step % 3}" for step in steps]),
            "target": pa.array([("cat", "dog")[step % 2] for step in steps]),
        }
    )


def array_bundle(folder: Path, seed: int = 0) -> Bundle:
    """Write a bundle over all of the columns below ``folder``."""
    table = array_table()
    schema = Schema(COLUMNS, "target", "binary", ("cat", "dog"))
    columns: dict[str, Any] = {
        "price": "numeric",
        "embedding": VectorConfig(),
        "photo": ImageConfig(),
        "words": TextConfig(buckets=16),
    }
    features = FeatureSet.from_config(FeaturesConfig(target="target", columns=columns), schema).fit(table)
    checkpoint = folder / f"checkpoint-{seed}"
    checkpoint.mkdir(parents=True)
    save_file(weights(features.width, 1, seed=seed), checkpoint / "model.safetensors")
    return write_bundle(folder / f"bundle-{seed}", **parts(features, table, checkpoint))
