"""Real data: a version that is worse in one slice only is refused, and passes in a person's own name alone."""

from __future__ import annotations

import getpass
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pytest

from rayline import blessing, config, flow, release
from rayline.cli.app import run as command
from rayline.config import Config
from rayline.errors import ConfigError, GateRefused, UsageError
from rayline.evaluation.gates import Judgement
from rayline.events import Event, Finished, Notice
from rayline.ledger import Record
from rayline.project import Project

BIKE = Path(__file__).parents[2].parent / "shared" / "data" / "bike_hour.csv"
pytestmark = [
    pytest.mark.usefixtures("ray_cluster", "mlflow_loaded"),
    pytest.mark.skipif(not BIKE.is_file(), reason="the shared data sets are not here"),
]
COLUMNS = {
    "hr": {"kind": "categorical", "max_levels": 24},
    "weathersit": {"kind": "categorical"},
    "workingday": {"kind": "categorical"},
    "temp": "numeric",
    "hum": "numeric",
    "yr": "numeric",
}
GATES = [
    {"metric": "rmse", "compare": "champion", "relative_margin": 0.1},
    {"metric": "rmse", "compare": "champion", "margin": 10.0, "slice": "weathersit"},
]
BEHAVIOUR = [
    {"test": "direction", "column": "temp", "add": 0.2, "expect": "not_lower", "within": 60.0, "at_least": 0.6},
    {"test": "invariance", "to": {"workingday": 1}, "within": 400.0},
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on good labels, and beside it the same rows with the labels of one kind of weather spoiled."""
    folder = tmp_path_factory.mktemp("bike")
    table = csv.read_csv(BIKE).select([*COLUMNS, "cnt"]).take(list(range(0, 17_379, 2)))
    test = pa.array(np.random.default_rng(0).random(table.num_rows) < 0.25)
    csv.write_csv(table.filter(test), folder / "test.csv")
    good = table.filter(pc.invert(test))
    csv.write_csv(good, folder / "good.csv")
    rain = pc.equal(good.column("weathersit"), 3)
    spoiled = pc.if_else(rain, pc.add(good.column("cnt"), 70), good.column("cnt"))
    csv.write_csv(good.set_column(good.column_names.index("cnt"), "cnt", spoiled), folder / "spoiled.csv")
    sections = {
        "name": "bike",
        "data": {"source": "good.csv", "split": {"by": "files", "test": "test.csv", "valid": 0.15}},
        "features": {"target": "cnt", "columns": COLUMNS},
        "model": {"hidden": [64, 32]},
        "train": {"epochs": 40, "batch_size": 64, "learning_rate": 0.005},
        "evaluate": {"gates": GATES, "behaviour": BEHAVIOUR},
    }
    (folder / "rayline.yaml").write_text(json.dumps(sections))
    return folder / "rayline.yaml"


def loaded(file: Path, *overrides: str) -> Config:
    return config.load(file, overrides)


def test_the_first_version_is_blessed_without_a_baseline_and_says_so(project: Path) -> None:
    heard = list[Event]()
    ended = flow.run(loaded(project), until="register", listener=heard.append)
    line = next(event.summary for event in heard if isinstance(event, Finished) and event.step == "bless")
    assert line.startswith("blessed: ")
    assert "no baseline" in line
    store = Project(loaded(project)).store
    version = store.version("bike", str(ended.result("register")["version"]))
    assert version.tags[blessing.TAG] == "yes"
    assert "no baseline" in version.tags[blessing.REASONS]
    assert "challenger" in version.aliases
    store.set_alias("bike", "champion", version.number)
    again = flow.run(loaded(project), until="register")  # the champion is not judged by itself
    assert [(each.key, each.seconds) for each in again.steps] == [(each.key, each.seconds) for each in ended.steps]


def test_a_version_that_is_worse_in_one_slice_only_is_registered_and_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = command(["register", str(project), "--set", "data.source=spoiled.csv"])
    told = " ".join(capsys.readouterr().err.split())
    assert code == 1
    assert "version 2 of 'bike' is registered and not blessed, so it gets no traffic: rmse of version 2 on" in told
    said = re.search(r"rmse of version 2 on weathersit=3 \(n = (\d+)\) ([\d.]+) > champion v1 ([\d.]+) \+ 10 ", told)
    assert said is not None, told
    assert float(said[2]) > float(said[3]) + 10
    assert "rmse of version 2 (n =" not in told, "on all rows it is within the margin"
    assert 'rayline rollout start bike --version 2 --force "WHY"' in told
    settings = loaded(project, "data.source=spoiled.csv")
    judged = blessing.of_result(flow_record(settings).result)
    verdicts = {each.where: each.verdict for each in judged.gates}
    assert verdicts == {"": "passed", **dict.fromkeys(WEATHERS[:2], "passed"), WEATHERS[2]: "failed"} | few(judged)
    version = Project(settings).store.version("bike", "2")
    assert version.tags[blessing.TAG] == "no"
    assert "weathersit=3" in version.tags[blessing.REASONS]
    assert version.tags[blessing.AGAINST] == "1"
    assert "challenger" not in version.aliases
    run = Project(settings).store.run(version.run_id)
    assert "gates.json" in run.files


def test_no_door_lets_it_through_but_by_force_with_a_reason(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ["--config", str(project)]
    assert command(["deploy", "bike@2", *here]) == 1
    assert "version 2 of 'bike' is not blessed: rmse of version 2 on weathersit=3" in " ".join(
        capsys.readouterr().err.split()
    )
    heard = list[Event]()
    opened = Project(loaded(project), listener=heard.append)
    with pytest.raises(GateRefused, match="not blessed"):
        release.start(opened, 2)
    with pytest.raises(UsageError, match="needs a reason"):
        blessing.allow(opened, 2, "  ")
    words = blessing.allow(opened, 2, "rain is to be counted anew")
    tags = opened.store.version("bike", "2").tags
    assert tags[blessing.TAG] == "forced"
    assert tags[blessing.FORCED_BY] == getpass.getuser()
    assert tags[blessing.FORCED_REASON] == "rain is to be counted anew"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", tags[blessing.FORCED_AT])
    assert words == f"let past its gates by {getpass.getuser()}: rain is to be counted anew"
    assert blessing.allow(opened, 2, None) == words  # once a person has answered for it
    assert [event.text for event in heard if isinstance(event, Notice)] == [f"version 2 was {words}"] * 2
    assert command(["lineage", "bike@2", *here]) == 0
    assert "rain is to be counted anew" in " ".join(capsys.readouterr().out.split())


def test_a_new_champion_means_judging_anew(project: Path) -> None:
    settings = loaded(project, "data.source=spoiled.csv")
    store = Project(settings).store
    store.set_alias("bike", "champion", 2)
    ended = flow.run(loaded(project), until="register")
    judged = blessing.of_result(ended.result("bless"))
    assert (judged.baseline, judged.blessed) == (2, True)
    assert store.version("bike", "1").tags[blessing.AGAINST] == "2"
    assert len(store.versions("bike")) == 2
    store.set_alias("bike", "champion", 1)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"gates": [{"metric": "rsme", "at_most": 3}]}, "gates[0]: metric 'rsme' is unknown.*'rmse'"),
        ({"gates": [{"metric": "rmse", "at_most": 3, "slice": "wethersit"}]}, "column 'wethersit'.*'weathersit'"),
        (
            {"behaviour": [{"test": "direction", "column": "tmp", "add": 1, "expect": "lower"}]},
            "column 'tmp' is no input.*'temp'",
        ),
    ],
)
def test_a_misspelt_gate_is_refused_before_anything_is_trained(
    project: Path, section: dict[str, Any], words: str
) -> None:
    heard = list[Event]()
    with pytest.raises(ConfigError, match=words.replace("[0]", r"\[0\]")):
        flow.run(loaded(project, f"evaluate={json.dumps(section)}"), listener=heard.append, until="register")
    assert {event.step for event in heard if isinstance(event, Finished)} == {"features"}


WEATHERS = ("weathersit=1", "weathersit=2", "weathersit=3")


def few(judged: Judgement) -> dict[str, str]:
    """What has too few rows, which is told and decides nothing."""
    return {each.where: "inconclusive" for each in judged.gates if each.rows is not None and each.rows < 50}


def flow_record(settings: Config) -> Record:
    opened = Project(settings)
    scored = opened.find("evaluate")
    assert scored is not None
    rival = blessing.rival_of(opened, Path(scored.result["bundle"]))
    judged = opened.find("bless", blessing.digest_of(rival))
    assert judged is not None
    return judged
