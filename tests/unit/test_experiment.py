"""What of a Run's data goes to the tracking store."""

from __future__ import annotations

from pathlib import Path

from rayline import experiment
from rayline.config import Config, DataConfig, FeaturesConfig
from rayline.features.identity import PartFacts
from rayline.features.prepared import DataFacts, Prepared
from rayline.registry.memory import MemoryStore
from rayline.registry.spool import Tracking
from rayline.registry.store import UsedData
from registry_examples import fitted, mixed_table

PARTS = {"train": PartFacts(80, "a" * 32), "valid": PartFacts(20, "b" * 32), "test": PartFacts(20, "c" * 32)}


def test_a_run_keeps_its_data_by_part_and_what_validation_counted(tmp_path: Path) -> None:
    features, store = fitted(mixed_table()), MemoryStore()
    rows = {part: each.rows for part, each in PARTS.items()}
    counts = {"allowed_missing": 12, "at most 3 %": 1}
    facts = DataFacts("/data/table.csv", "d" * 32, rows, features.schema.fingerprint, (), PARTS, counts)
    config = Config(
        name="table",
        data=DataConfig(source="/data/table.csv"),
        features=FeaturesConfig(target="target"),
        storage=str(tmp_path / ".rayline"),
    )

    tracking = Tracking(tmp_path / "tracking", lambda: store)
    with experiment.open_run(tracking, config, Prepared(tmp_path, features, facts), tmp_path / "runs" / "k") as run:
        pass

    record = store.run(run.run_id)
    assert record.datasets == {
        "training": UsedData("a" * 32, 80),
        "validation": UsedData("b" * 32, 20),
        "evaluation": UsedData("c" * 32, 20),
    }
    assert record.metrics == {"data_allowed_missing": 12, "data_at_most_3": 1}
    assert record.tags["rayline.data"] == "d" * 32
