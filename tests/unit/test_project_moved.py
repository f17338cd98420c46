"""Finished steps stay finished when a project is moved, packed and sent, or was made by an older Rayline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rayline import config
from rayline.errors import ConfigError
from rayline.ledger import Record
from rayline.project import Project

YAML = """
name: churn
data: {source: data.csv, split: {by: files, valid: valid.csv, test: test.csv}}
features: {target: y}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "rayline.yaml").write_text(YAML)
    for name in ("data", "valid", "test"):
        (folder / f"{name}.csv").write_text("x,y\n1,a\n")
    return opened(folder)


def opened(folder: Path) -> Project:
    return Project(config.load(folder / "rayline.yaml"))


def finished(project: Project, step: str, key: str) -> None:
    out = project.storage / "features" / key
    out.mkdir(parents=True)
    project.ledger.write(Record(step, key, 1.0, {"path": str(out), "rows": {"train": 3}}))


def test_a_moved_project_finds_its_finished_steps_where_they_are_now(project: Project, tmp_path: Path) -> None:
    finished(project, "features", project.key("features"))
    shutil.move(tmp_path / "first", tmp_path / "second")
    found = opened(tmp_path / "second").find("features")
    assert found is not None
    assert Path(found.result["path"]).is_relative_to(tmp_path / "second")


def test_other_content_in_the_same_place_is_another_step(project: Project, tmp_path: Path) -> None:
    finished(project, "features", project.key("features"))
    (tmp_path / "first" / "data.csv").write_text("x,y\n2,a\n")
    assert opened(tmp_path / "first").find("features") is None


def test_what_an_older_rayline_finished_stays_finished(project: Project) -> None:
    from rayline.ledger import key_of

    key = key_of("features", *project._because_before["features"])
    assert key != project.key("features")
    out = project.storage / "features" / key
    out.mkdir(parents=True)
    record = {"step": "features", "key": key, "seconds": 1.0, "result": {"path": str(out)}}
    project.ledger.folder.mkdir(parents=True)
    (project.ledger.folder / f"features-{key}.json").write_text(json.dumps(record))
    found = project.find("features")
    assert found is not None
    assert found.result == {"path": str(out)}


def test_an_object_store_without_a_tracking_server_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "rayline.yaml").write_text(f"{YAML}\nstorage: s3://team/churn\n")
    with pytest.raises(ConfigError, match=r"'s3://team/churn' cannot hold MLflow's SQLite.*MLFLOW_TRACKING_URI"):
        _ = opened(tmp_path).tracking
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert opened(tmp_path).config.registry.tracking_uri == "http://127.0.0.1:5000"


def test_modules_of_the_user_are_looked_for_beside_the_file_wherever_the_storage_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [])
    (tmp_path / "rayline.yaml").write_text(f"{YAML}\nstorage: s3://team/churn\n")
    opened(tmp_path)
    import sys

    assert str(tmp_path) in sys.path
