"""What a rollout ended in, a refused file and a missing folder each have their exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rayline.cli import show
from rayline.cli.app import run
from rayline.errors import DataError
from rayline.offline import _refuse_twins
from rayline.project import Project
from rayline.release import Released
from rayline.rollout import commands
from rayline.rollout.plans.plan import Plan, SetWeight
from rayline.rollout.state import RolloutState
from rayline.rollout.storage.storage import RolloutFiles
from rayline.serving.traffic.plan import LiveVersion


def state(phase: str, paused_for: str = "") -> RolloutState:
    versions = [LiveVersion(number=number, path=f"/bundles/{number}", digest="0" * 16) for number in (1, 2)]
    return RolloutState(
        id="r1",
        kind="rollout",
        service="table",
        plan=Plan("canary", (SetWeight(10), SetWeight(100))),
        stable_version=versions[0],
        canary_version=versions[1],
        phase=phase,  # type: ignore[arg-type]
        paused_for=paused_for,  # type: ignore[arg-type]
        began=1.0,
        updated=2.0,
        experiment="table",
    )


def project(folder: Path) -> Path:
    file = folder / "rayline.yaml"
    values = {"name": "table", "data": {"source": "table.csv"}, "features": {"target": "label"}}
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.mark.parametrize("option", [[], ["--wait"], ["--watch"]], ids=["at once", "wait", "watch"])
@pytest.mark.parametrize(
    ("phase", "paused_for", "code"),
    [
        ("Healthy", "", 0),
        ("Paused", "promote", 0),
        ("Paused", "hand", 0),
        ("Paused", "verdict", 1),
        ("Degraded", "", 1),
    ],
)
def test_a_planned_pause_is_no_refusal_and_a_missing_verdict_is(
    tmp_path: Path, option: list[str], phase: str, paused_for: str, code: int
) -> None:
    RolloutFiles(tmp_path / ".rayline", "table").write(state(phase, paused_for))
    assert run(["rollout", "status", "table", *option, "--config", str(project(tmp_path))]) == code


def test_the_history_is_read_from_storage_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(project(tmp_path))
    assert run(["rollout", "history", "table", "--config", file]) == 2, "there was none"
    files = RolloutFiles(tmp_path / ".rayline", "table")
    files.write(state("Degraded"))
    files.close()
    capsys.readouterr()
    assert run(["rollout", "history", "table", "--config", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "id": "r1",
            "kind": "rollout",
            "strategy": "canary",
            "stable": 1,
            "canary": 2,
            "phase": "Degraded",
            "reason": "",
            "began": 1.0,
            "seconds": 1.0,
        }
    ]
    assert run(["rollout", "history", "table", "--config", file]) == 0
    assert "v1 → v2" in capsys.readouterr().out


@pytest.mark.parametrize(("phase", "code"), [("Healthy", 0), ("Degraded", 1), ("Paused", 1)])
def test_an_undo_that_does_not_arrive_is_a_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, code: int
) -> None:
    monkeypatch.setattr(Project, "connect", lambda self: None)
    monkeypatch.setattr(commands, "undo", lambda name, **_: state("Progressing"))
    monkeypatch.setattr(commands, "wait", lambda name, **_: state(phase))
    assert run(["rollout", "undo", "table", "--config", str(project(tmp_path))]) == code


@pytest.mark.parametrize("ok", [True, False])
def test_a_release_says_itself_whether_it_is_good(ok: bool) -> None:
    assert show.released(Released(2, "Paused", "waits", "http://127.0.0.1:1/table", ok)) == (0 if ok else 1)


def test_answers_into_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "none" / "answers.parquet"
    code = run(["predict", "table", "rows.csv", "--out", str(out), "--config", str(project(tmp_path))])
    assert code == 2
    assert f"folder '{out.parent}' does not exist" in capsys.readouterr().err
    assert not (tmp_path / ".rayline").exists()


def test_answers_into_a_folder_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "table", "rows.csv", "--out", str(tmp_path), "--config", str(project(tmp_path))]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_a_column_named_like_an_answer_is_refused() -> None:
    with pytest.raises(DataError, match=r"'rows\.csv' has a column 'label' already"):
        _refuse_twins(["size", "label"], ("label", "probabilities"), Path("rows.csv"))
    _refuse_twins(["size", "label"], ("prediction",), Path("rows.csv"))


def test_what_the_system_refuses_names_path_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.csv").write_text("size,label\n" + "1,a\n2,b\n" * 30)
    (tmp_path / "file").write_text("in the way")
    code = run(["run", str(project(tmp_path)), "--set", "storage=file/deep"])
    said = capsys.readouterr().err
    assert code == 3
    assert str(tmp_path / "file") in said
    assert "Not a directory" in said


def test_stop_finds_the_storage_of_the_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project(tmp_path)
    file.write_text(file.read_text() + "storage: state\n")
    monkeypatch.chdir(tmp_path)
    for arguments in ([], ["--config", str(file)]):
        assert run(["stop", *arguments]) == 0
        assert str(tmp_path / "state") in capsys.readouterr().out.replace("\n", "")


def test_stop_where_there_is_no_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["stop"]) == 2
    assert "--config" in capsys.readouterr().err
    (tmp_path / ".rayline").mkdir()
    assert run(["stop"]) == 0
