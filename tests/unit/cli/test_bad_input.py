"""Bad input gets a clear error and the exit code that the design promises."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from rayline import config
from rayline.cli.app import run

GOOD = "id,size,colour,label\n" + "".join(
    f"{100 + n},{n * 7 % 13},{'red' if n % 3 else 'blue'},{'yes' if n % 2 else 'no'}\n" for n in range(60)
)


def written(folder: Path, text: str, name: str = "table.csv") -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run(arguments)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "target", "words"),
    [
        (GOOD, "lable", ["no target column 'lable'", "Did you mean 'label'?"]),
        ("", "label", ["table.csv", "empty"]),
        ("id,size,label\n", "label", ["table.csv"]),
        ("size,label\n" + "1,yes\n" * 30, "label", ["'yes' in every row"]),
        (GOOD.replace(",yes", ","), "label", ["target 'label' has no value in"]),
    ],
    ids=["unknown target", "empty file", "only a header", "one class only", "missing target values"],
)
def test_init_refuses_a_table_it_cannot_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, target: str, words: list[str]
) -> None:
    code, said = told(capsys, "init", written(tmp_path, text), "--target", target, "--out", str(tmp_path / "out"))
    assert code == 2
    for word in words:
        assert word in said
    assert not (tmp_path / "out" / "rayline.yaml").exists()


def test_init_of_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, GOOD)
    code, said = told(capsys, "init", str(tmp_path / "tabel.csv"), "--target", "label", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "tabel.csv" in said
    assert "table.csv" in said


def test_init_keeps_a_configuration_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "mine", "rayline.yaml")
    code, said = told(capsys, "init", written(tmp_path, GOOD), "--target", "label", "--out", str(tmp_path))
    assert code == 2
    assert "--force" in said
    assert (tmp_path / "rayline.yaml").read_text() == "mine"


def test_init_writes_what_runs_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", written(tmp_path, GOOD), "--target", "label", "--out", str(tmp_path)]) == 0
    loaded = config.load(tmp_path / "rayline.yaml")
    assert loaded.name == "table"
    assert loaded.features.task == "binary"
    assert loaded.features.drop == ("id",)
    assert set(loaded.features.columns) == {"size", "colour"}
    assert "id" in capsys.readouterr().out


def test_init_takes_the_services_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = written(tmp_path, GOOD)
    code, said = told(capsys, "init", table, "--target", "label", "--out", str(tmp_path / "out"), "--port", "80000")
    assert (code, "service.port" in said, (tmp_path / "out").exists()) == (2, True, False)
    assert run(["init", table, "--target", "label", "--out", str(tmp_path), "--port", "8123"]) == 0
    assert config.load(tmp_path / "rayline.yaml").service.port == 8123


@pytest.mark.parametrize("header", ["on", "1st", "größe", "a: b", "null", "it's", '"q"', "# x", "- y", "{z}"])
def test_init_writes_any_column_name_as_valid_yaml(tmp_path: Path, header: str) -> None:
    quoted = '"' + header.replace('"', '""') + '"'
    assert (
        run(["init", written(tmp_path, GOOD.replace("size", quoted, 1)), "--target", "label", "--out", str(tmp_path)])
        == 0
    )
    assert header in config.load(tmp_path / "rayline.yaml").features.columns


def project(folder: Path, **changes: object) -> str:
    values = {"name": "table", "data": {"source": "table.csv"}, "features": {"target": "label"}, **changes}
    return written(folder, yaml.safe_dump(values), "rayline.yaml")


@pytest.mark.parametrize("verb", ["plan", "run", "validate", "train", "tune", "evaluate", "register"])
def test_a_misspelt_key_names_the_nearest(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = told(capsys, verb, project(tmp_path, train={"epoch": 3}))
    assert code == 2
    assert "unknown configuration key 'train.epoch'. Did you mean 'epochs'?" in said


@pytest.mark.parametrize("verb", ["plan", "run", "validate", "train", "tune", "evaluate", "register"])
def test_a_missing_configuration_names_the_way_out(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = told(capsys, verb, "nowhere.yaml")
    assert code == 2
    assert "rayline init" in said


def test_a_missing_source_is_told_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = told(capsys, "run", project(tmp_path))
    assert code == 2
    assert "table.csv" in said


def test_tune_without_a_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, GOOD)
    code, said = told(capsys, "tune", project(tmp_path))
    assert code == 2
    assert "'tune'" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["rollout", "status", "tabel"],
        ["rollout", "abort", "tabel"],
        ["deploy", "tabel@3"],
        ["predict", "tabel", "rows.csv"],
    ],
    ids=["status", "abort", "deploy", "predict"],
)
def test_an_unknown_service_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, said = told(capsys, *arguments, "--config", project(tmp_path))
    assert code == 2
    assert "unknown service 'tabel'" in said
    assert "Did you mean 'table'?" in said


@pytest.mark.parametrize("arguments", [["rum"], ["run", "a.yaml", "--frehs"], ["rollout", "begin", "x"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, said = told(capsys, *arguments)
    assert code == 2
    assert "wrong usage" in said


@pytest.mark.parametrize("text", ["table@", "@3"])
def test_a_service_s_version_must_be_whole(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = told(capsys, "deploy", text)
    assert code == 2
    assert "NAME@VERSION" in said


def test_stop_where_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stop", "--storage", str(tmp_path)]) == 0
    assert "no local cluster" in capsys.readouterr().out


def test_a_port_in_use_is_told_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, GOOD)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        code, said = told(capsys, "run", project(tmp_path, service={"port": port}))
    assert code == 3
    assert f"127.0.0.1:{port}" in said
    assert "service.port" in said
    assert not (tmp_path / ".rayline" / "cluster.json").exists()
