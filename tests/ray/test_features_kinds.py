"""Texts, arrays and cross-fitted encodings on Ray: the same numbers as here, whatever the blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from rayline.config import CategoricalConfig, Config, DataConfig, FeaturesConfig, TextConfig
from rayline.features.pipeline import prepare
from rayline.features.transform import FittedFeatureSet

pytestmark = pytest.mark.usefixtures("ray_cluster")

ROWS = 900


def made_table() -> pa.Table:
    chance = np.random.default_rng(29)
    words = ["red", "old", "car", "road", "gold"]
    vectors = [None if place % 50 == 0 else each for place, each in enumerate(chance.normal(size=(ROWS, 3)).tolist())]
    return pa.table(
        {
            "city": chance.integers(0, 30, ROWS).astype(str),
            "note": [" ".join(chance.choice(words, 1 + place % 4)) if place % 40 else None for place in range(ROWS)],
            "embedding": pa.array(vectors, pa.list_(pa.float64())),
            "picture": pa.FixedShapeTensorArray.from_numpy_ndarray(
                chance.integers(0, 256, (ROWS, 2, 2, 3)).astype(np.uint8)
            ),
            "y": chance.normal(size=ROWS),
        }
    )


def test_new_kinds_go_through_the_pipeline(tmp_path: Path) -> None:
    pa.parquet.write_table(made_table(), tmp_path / "made.parquet")
    columns: dict[str, Any] = {
        "city": CategoricalConfig(encode="target"),
        "often": CategoricalConfig(encode="frequency", source="city"),
        "note": TextConfig(buckets=16),
        "embedding": "vector",
        "picture": "image",
    }
    config = Config(
        name="t",
        data=DataConfig(source=str(tmp_path / "made.parquet")),
        features=FeaturesConfig(target="y", columns=columns),
    )
    whole = prepare(config, tmp_path / "whole")
    cut = prepare(config, tmp_path / "cut", rows_per_block=110)
    assert whole.features.to_json() == cut.features.to_json()
    assert np.array_equal(whole.train()[0], cut.train()[0])
    assert whole.train()[0].shape[1] == 2 + 16 + 3 + 12
    test = whole.test_table()
    rows = json.loads(json.dumps(test.select(whole.features.input_columns).to_pylist()))
    restored = FittedFeatureSet.from_json(json.loads((tmp_path / "whole" / "features.json").read_text()))
    assert np.abs(restored.rows(rows) - whole.features.transform(test)).max() <= 1e-6
    described = json.loads((tmp_path / "whole" / "reference.json").read_text())["columns"]
    assert described["note"]["missing"] > 0
    assert described["embedding"]["mean"] > 0
