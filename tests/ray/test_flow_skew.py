"""A flow stops before it registers a bundle that serves other numbers than it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from broken_rows import OFF_BY_A_THOUSANDTH, UNKNOWN_TAKEN_FOR_MISSING, break_rows
from rayline import config, flow
from rayline.config import Config
from rayline.errors import SkewFound
from rayline.events import Event, Finished
from rayline.project import Project

pytestmark = pytest.mark.usefixtures("ray_cluster", "mlflow_loaded")


def loaded(folder: Path) -> Config:
    chance = np.random.default_rng(3)
    lines = ["size,town,label"]
    for size, town in zip(chance.normal(size=2_000).round(4), chance.integers(0, 30, 2_000), strict=True):
        lines.append(f"{size},town {town if town < 5 else -town},{'big' if size + town / 30 > 0.4 else 'small'}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    file = folder / "rayline.yaml"
    columns = {"size": "numeric", "town": {"kind": "categorical", "max_levels": 12}}
    sections = {"features": {"target": "label", "columns": columns}, "train": {"epochs": 1}}
    file.write_text(json.dumps({"name": "table", "data": {"source": "table.csv"}, **sections}))
    return config.load(file)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (OFF_BY_A_THOUSANDTH, ("column 'size': serving gives ", "1,000 of 1,000 training rows differ, in size")),
        (UNKNOWN_TAKEN_FOR_MISSING, ("column 'town' (feature 'town=<unknown>'): serving gives 0 and offline gave 1",)),
    ],
    ids=["off by a thousandth", "unknown taken for missing"],
)
def test_a_broken_transform_is_caught_and_nothing_is_registered(
    code: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, heard = loaded(tmp_path), list[Event]()
    with monkeypatch.context() as broken:
        break_rows(broken, tmp_path / "broken", code)
        with pytest.raises(SkewFound, match="row ") as stopped:
            flow.run(settings, until="register", listener=heard.append)

    finished = [event.step for event in heard if isinstance(event, Finished)]
    assert finished == ["features", "train", "evaluate"]
    assert all(each in str(stopped.value) for each in words)
    project = Project(settings)
    assert project.store.versions("table") == ()
    trained = project.find("train")
    assert trained is not None
    record = project.store.run(trained.result["run_id"])
    assert record.tags["rayline.skew"] == str(stopped.value)
    assert record.metrics["skew_largest_difference"] > 9e-4

    ended = flow.run(settings, until="register", listener=heard.append)

    assert [record.step for record in ended.steps] == ["features", "train", "evaluate", "skew", "bless", "register"]
    line = next(event for event in heard if isinstance(event, Finished) and event.step == "skew")
    assert line.summary == "1,000 training rows: serving equals offline (largest difference 0)"
    assert [version.number for version in project.store.versions("table")] == [1]
    record = project.store.run(trained.result["run_id"])
    assert record.tags["rayline.skew"] == "none in 1,000 training rows"
    assert {context: used.rows for context, used in record.datasets.items()} == {
        context: ended.result("features")["rows"][part]
        for context, part in (("training", "train"), ("validation", "valid"), ("evaluation", "test"))
    }
    assert flow.run(settings, until="register").steps == ended.steps
