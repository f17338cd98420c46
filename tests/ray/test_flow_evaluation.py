"""The evaluation step of a flow: what it tells, keeps in its result and leaves in MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rayline import config, flow
from rayline.errors import ConfigError
from rayline.events import Event, Finished, Notice
from rayline.project import Project

pytestmark = pytest.mark.usefixtures("ray_cluster", "mlflow_loaded")


def test_the_step_measures_by_slice_tries_the_bundle_and_keeps_it_all(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    size, town = chance.normal(size=4_000).round(4), chance.integers(0, 4, 4_000)
    # In town 3 the label is a coin's: no model can know it there.
    big = np.where(town == 3, chance.integers(0, 2, 4_000) == 1, size > 0)
    lines = [f"{a},town {b},{'big' if c else 'small'}" for a, b, c in zip(size, town, big, strict=True)]
    (tmp_path / "table.csv").write_text("\n".join(["size,town,label", *lines]) + "\n")
    sections = {
        "features": {"target": "label", "drop": ["town"]},
        "train": {"epochs": 4},
        "evaluate": {
            "slices": [{"column": "town"}, {"column": "size", "bins": [0]}],
            "bootstrap": 200,
            "limits": {"memory_mb": 1},
        },
    }
    file = tmp_path / "rayline.yaml"
    file.write_text(json.dumps({"name": "table", "data": {"source": "table.csv"}, **sections}))
    settings, heard = config.load(file), list[Event]()

    with pytest.raises(ConfigError, match=r"column 'twon' is not in the test part\. Did you mean 'town'"):
        flow.run(config.load(file, ['evaluate.slices=[{"column": "twon"}]']), until="evaluate", listener=heard.append)
    assert [event.step for event in heard if isinstance(event, Finished)] == ["features"]

    ended = flow.run(settings, until="evaluate", listener=heard.append)

    found = ended.result("evaluate")["evaluation"]
    named = [each["name"] for each in found["slices"] if not each["found"]]
    assert named == [*(f"town = town {number}" for number in range(4)), "size < 0", "size >= 0"]
    assert next(each["name"] for each in found["slices"] if each["found"]) == "town = town 3"
    assert found["threshold"]["rows"] == ended.result("features")["rows"]["valid"]
    assert found["infrastructure"]["failure"] == ""
    assert found["infrastructure"]["one"]["p50_ms"] > 0
    [notice] = [event.text for event in heard if isinstance(event, Notice) and "limit" in event.text]
    assert "evaluate.limits.memory_mb is 1" in notice
    line = next(event.summary for event in heard if isinstance(event, Finished) and event.step == "evaluate")
    assert line.startswith("roc_auc 0.")
    assert "worst slice town = town 3" in line

    record = Project(settings).store.run(ended.result("train")["run_id"])
    assert {"evaluation/evaluation.json", "evaluation/slices.csv"} < set(record.files)
    plots = {Path(each).stem for each in record.files if each.startswith("plots/")}
    assert {"confusion_matrix", "roc", "precision_recall", "calibration", "slices"} < plots
    assert record.metrics["test_roc_auc"] == pytest.approx(found["scores"]["roc_auc"]["value"])
    assert record.metrics["bundle_memory_mb"] == pytest.approx(found["infrastructure"]["memory_mb"])
