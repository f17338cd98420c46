"""What a features step leaves on disk comes back, in JSON where a person reads it and in Arrow where it is long."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayline.config import CategoricalConfig, FeaturesConfig
from rayline.errors import DataError, NotFoundError
from rayline.features.feature_set import FeatureSet
from rayline.features.prepared import DataFacts, Prepared, write_sample, write_values
from rayline.features.schemas.inference import schema_for
from rayline.features.splits.identity import PartFacts

FACTS = DataFacts(
    "table.csv",
    "ab" * 16,
    {"train": 5, "valid": 1, "test": 1},
    "f" * 16,
    ("one remark",),
    {"train": PartFacts(5, "c" * 32), "valid": PartFacts(1, "d" * 32)},
    {"presence": 3},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A features step of one column with 500 levels."""
    steps = range(2_000)
    table = pa.table({"town": [f"town {step % 500}" for step in steps], "target": [step * 0.5 for step in steps]})
    config = FeaturesConfig(target="target", columns={"town": CategoricalConfig(max_levels=500)})
    features = FeatureSet.from_config(config, schema_for(config, table)).fit(table)
    write_values(tmp_path, features, {"columns": {}}, FACTS)
    write_sample(tmp_path, table.slice(0, 20), features.transform(table.slice(0, 20)))
    return tmp_path


def test_state_facts_and_sample_come_back(folder: Path) -> None:
    loaded = Prepared.load(folder)

    assert loaded.facts == FACTS
    table, matrix = loaded.sample()
    assert table.num_rows == 20
    assert np.array_equal(loaded.features.transform(table), matrix)


def test_many_levels_lie_in_arrow_and_the_json_stays_short(folder: Path) -> None:
    assert (folder / "features.json").stat().st_size < 2_000
    assert (folder / "features.arrow").exists()
    (folder / "features.arrow").unlink()
    with pytest.raises(DataError, match="its Arrow file does not hold"):
        Prepared.load(folder)


def test_a_step_without_a_sample_says_how_to_get_one(folder: Path) -> None:
    (folder / "sample.npy").unlink()

    with pytest.raises(NotFoundError, match=r"holds no sample of training rows\. Make it anew with `--fresh`"):
        Prepared.load(folder).sample()


def test_a_step_of_another_format_is_refused(folder: Path) -> None:
    facts = json.loads((folder / "facts.json").read_text())
    (folder / "facts.json").write_text(json.dumps({**facts, "format": 1}))

    with pytest.raises(DataError, match="another Rayline's format"):
        Prepared.load(folder)
