"""A Study over features and model on a real table ends with a Bundle that serves, and a page; others begin from it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from rayline import config, flow
from rayline.errors import ConfigError, NotFoundError
from rayline.events import Event, Finished, Notice, TrialEnded
from rayline.project import Project
from rayline.registry.bundle import Bundle

pytestmark = pytest.mark.usefixtures("ray_cluster", "mlflow_loaded")

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")
SPACE = {
    "features.columns.hr.kind": {"choose": ["numeric", "categorical"]},
    "features.columns.temp.use": {"choose": [True, False]},
    "model.hidden": {"choose": [[8], [16]]},
}
TUNE = {"trials": 8, "space": SPACE, "sampler": "grid", "scheduler": "none"}


def written(folder: Path, **sections: Any) -> Path:
    file = folder / "rayline.yaml"
    columns = {"hr": "numeric", "season": "categorical", "temp": "numeric", "workingday": "boolean"}
    raw = {
        "name": "bike",
        "data": {"source": str(DATA / "bike_hour.csv")},
        "features": {"target": "cnt", "columns": columns},
        "train": {"epochs": 2, "batch_size": 512, "use_gpu": False},
        "tune": TUNE,
        **sections,
    }
    file.write_text(json.dumps(raw))
    return file


@pytest.fixture(scope="module")
def finished(ray_cluster: None, mlflow_loaded: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run a Study over four features configurations to a registered version."""
    if not DATA.is_dir():
        pytest.skip("the shared data sets are not here")
    folder, heard = tmp_path_factory.mktemp("bike"), list[Event]()
    settings = config.load(written(folder))
    return settings, flow.run(settings, until="register", listener=heard.append), heard


def test_the_winner_is_served_with_its_own_features(finished: Any) -> None:
    settings, ended, heard = finished
    found = ended.result("tune")
    assert found["trials"] == 8
    assert found["transforms"] == 3  # the fourth features configuration is the base's own
    assert len([event for event in heard if isinstance(event, TrialEnded)]) == 8
    assert [record.step for record in ended.steps] == ["features", "tune", "evaluate", "skew", "bless", "register"]
    assert ended.result("skew")["largest"] == 0
    bundle = Bundle.load(Path(ended.result("evaluate")["bundle"]))
    inputs = set(bundle.features.input_columns)
    assert ("temp" in inputs) == found["params"]["features.columns.temp.use"]
    kinds = {each.name: each.kind for each in bundle.features.schema.columns}
    assert kinds["hr"] == found["params"]["features.columns.hr.kind"]
    assert bundle.features.fingerprint == found["features"]
    again = flow.run(settings, until="register")
    assert json.loads(json.dumps([each.result for each in again.steps])) == json.loads(
        json.dumps([each.result for each in ended.steps])
    )


def test_the_parent_run_holds_the_page_and_the_nested_runs_say_what_differs(finished: Any) -> None:
    settings, ended, _ = finished
    found, store = ended.result("tune"), Project(settings).store
    parent = store.run(found["study_run_id"])
    expected = {"study.html", "trials.csv", "best.yaml", "plots/history.png", "plots/history.html"}
    expected |= {f"plots/{name}.{kind}" for name in ("parallel", "importance") for kind in ("png", "html")}
    assert {f"study/{name}" for name in expected} <= set(parent.files)
    described = MlflowClient(store.tracking_uri).get_run(parent.run_id).data.tags["mlflow.note.content"]
    assert "hr.kind `" in described
    assert "`study/best.yaml`" in described
    assert parent.params["tune.space.model.hidden"] == "[8], [16]"
    children = [store.run(each) for each in store.children(parent.run_id)]
    assert len(children) == 8
    assert {each.params["features.columns.hr.kind"] for each in children} == {"numeric", "categorical"}
    assert len({each.tags["rayline.features"] for each in children}) == 4
    page = Path(found["page"])
    assert page.parent == Path(settings.storage) / "studies" / page.parent.parent.name / "page"
    with (page.parent / "trials.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["trial"] for row in rows] == [str(number) for number in range(1, 9)]
    assert [row["trial"] for row in rows if row["best"] == "True"] == [str(found["best"] + 1)]


def test_the_best_configuration_trains_as_it_stands(finished: Any, tmp_path: Path) -> None:
    settings, ended, _ = finished
    file = Path(ended.result("tune")["page"]).parent / "best.yaml"
    moved = tmp_path / "anywhere.yaml"
    moved.write_text(file.read_text())
    best = config.load(moved)
    assert best.tune is None
    assert best.storage == settings.storage
    assert config.plain(best.model) == ended.result("tune")["model"]
    heard: list[Event] = []
    trained = flow.run(best, until="train", listener=heard.append)
    assert trained.result("features")["path"] == ended.result("tune")["path"]
    assert trained.result("train")["epochs"] == 2


def test_a_later_study_begins_from_the_trials_of_an_earlier_one(finished: Any, tmp_path: Path) -> None:
    settings, ended, _ = finished
    space = {"model.hidden": {"choose": [[8], [32]]}, "train.learning_rate": {"low": 0.001, "high": 0.1, "log": True}}
    raw = written(
        tmp_path,
        name="second",
        registry={"tracking_uri": Project(settings).store.tracking_uri},  # type: ignore[attr-defined]
        tune={"trials": 2, "space": space, "warm_start": ["bike"]},
    )
    heard: list[Event] = []
    second = config.load(raw)
    flow.run(second, until="tune", listener=heard.append)
    notice = next(event.text for event in heard if isinstance(event, Notice) and "warm start" in event.text)
    assert f"Study 'bike' (run {ended.result('tune')['study_run_id']}): 4 trials" in notice
    assert "features.columns.hr.kind, features.columns.temp.use not searched now and left out" in notice
    assert "4 values of model.hidden lie outside what is searched now" in notice
    third = config.load(raw, ["tune.warm_start=[biek]", "tune.trials=3"])
    with pytest.raises(NotFoundError, match=r"names 'biek', and MLflow has no finished Study of this name.*'bike'"):
        flow.run(third, until="tune")


@needs_data
def test_a_space_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    space = {"features.columns.hour.scale": {"choose": ["none", "minmax"]}}
    heard: list[Event] = []
    settings = config.load(written(tmp_path, tune={"space": space}))
    with pytest.raises(ConfigError, match=r"unknown key 'features\.columns\.hour\.scale'"):
        flow.run(settings, until="tune", listener=heard.append)
    assert heard == []
    assert not Path(settings.storage).exists()


@needs_data
def test_columns_that_are_inferred_are_searched_too(tmp_path: Path) -> None:
    space = {"features.columns.windspeed.scale": {"choose": ["standard", "quantile"]}}
    features = {"target": "cnt", "drop": ["casual", "registered", "instant", "dteday"]}
    tune = {"trials": 2, "space": space, "sampler": "grid"}
    heard: list[Event] = []
    settings = config.load(written(tmp_path, features=features, tune=tune))
    ended = flow.run(settings, until="register", listener=heard.append)
    assert ended.result("tune")["transforms"] == 1
    assert any(isinstance(event, Finished) and event.step == "skew" for event in heard)
