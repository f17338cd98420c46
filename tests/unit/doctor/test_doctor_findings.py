"""What the doctor finds on this machine: real files, ports, databases and programs, as users break them."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rayline import config
from rayline.cli.app import run
from rayline.config import parse
from rayline.doctor import Check, Finding, Subject
from rayline.doctor.configuration import ConfigCheck
from rayline.doctor.haproxy import HaproxyCheck
from rayline.doctor.machine import PathCheck
from rayline.doctor.manifests import ManifestCheck, unset_values
from rayline.doctor.mlflow_check import MlflowCheck
from rayline.doctor.ports import PortCheck, ancestor_of, listeners
from rayline.doctor.storage_check import StorageCheck
from rayline.doctor.subject import subject_of
from rayline.doctor.tokens import TokenCheck
from rayline.registry.schema_version import latest


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def subject(folder: Path, **sections: Any) -> Subject:
    file = folder / "rayline.yaml"
    values = {"name": "table", "data": {"source": "t.csv"}, "features": {"target": "y"}}
    file.write_text(json.dumps({**values, **sections}))
    return Subject(config.load(file), file)


def found(check: Check, of: Subject) -> Finding:
    return next(iter(check.look(of)))


def test_a_port_that_another_program_holds_is_told_with_its_process(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        seen = found(PortCheck(), subject(tmp_path, service={"port": port}))
        assert listeners(port) == [os.getpid()]
    assert seen.state == "failed"
    assert "(service.port) is held by '" in seen.seen
    assert f"(process {os.getpid()})" in seen.seen
    assert listeners(port) == []
    assert found(PortCheck(), subject(tmp_path, service={"port": port})).state == "ok"


def test_the_oldest_process_is_found() -> None:
    assert ancestor_of(os.getpid()) != 1
    assert ancestor_of(10**9) == 10**9


@pytest.mark.parametrize(
    ("mode", "content", "state", "words"),
    [(0o600, "secret", "ok", "mode 0600"), (0o644, "secret", "failed", "mode 0644: others may read it"),
     (0o600, " ", "failed", "is empty"), (None, "", "failed", "No such file")],
)  # fmt: skip
def test_a_tokens_file_is_this_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None, content: str, state: str, words: str
) -> None:
    file = tmp_path / "token"
    if mode is not None:
        file.write_text(content)
        file.chmod(mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    seen = found(TokenCheck(), Subject(address="10.0.0.1:6379"))
    assert seen.state == state
    assert words in seen.seen
    assert content.strip() == "" or content not in seen.seen


def test_a_cluster_that_is_open_to_everyone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert found(TokenCheck(), Subject(address="10.0.0.1:6379")).state == "notice"


def test_a_storage_that_is_no_folder_is_refused_and_one_to_come_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    under_a_file = subject(tmp_path, storage=str(tmp_path / "file" / "state"))
    to_come = subject(tmp_path, storage=str(tmp_path / "new" / "state"))
    assert found(StorageCheck(), to_come).state == "ok"
    assert not (tmp_path / "new").exists()
    seen = found(StorageCheck(), under_a_file)
    assert (seen.state, seen.seen.endswith("file' is a file")) == ("failed", True)


def migrated_to(file: Path, revision: str) -> None:
    with closing(sqlite3.connect(file)) as made, made:
        made.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        made.execute("INSERT INTO alembic_version VALUES (?)", (revision,))


@pytest.mark.parametrize(
    ("revision", "state", "words"),
    [("451aebb31d03", "failed", "migrations behind"), ("ffffffffffff", "failed", "does not know: newer"),
     ("latest", "ok", "this MLflow's own")],
)  # fmt: skip
def test_a_database_of_another_mlflow_is_told(tmp_path: Path, revision: str, state: str, words: str) -> None:
    file = tmp_path / "m.db"
    migrated_to(file, latest() if revision == "latest" else revision)
    seen = found(MlflowCheck(), subject(tmp_path, registry={"tracking_uri": f"sqlite:///{file}"}))
    assert seen.state == state
    assert words in seen.seen
    assert state == "ok" or seen.way_out


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.db").write_text("no database, but a long enough text to be one, had it the right beginning" * 20)
    from rayline.doctor import examine

    wrong = subject(tmp_path, registry={"tracking_uri": f"sqlite:///{tmp_path / 'm.db'}"})
    (examined,) = examine(wrong, [MlflowCheck()]).checks
    assert "is no SQLite database" in examined.findings[0].seen


def test_haproxy_that_is_not_there_fails_a_service_that_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "haproxy"
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", str(broken))
    assert "does not exist" in found(HaproxyCheck(), subject(tmp_path, service={"ingress": "haproxy"})).seen
    broken.write_text("#!/bin/sh\necho cannot open shared object file >&2\nexit 127\n")
    broken.chmod(0o755)
    seen = found(HaproxyCheck(), subject(tmp_path))
    assert (seen.state, "ends with 127: cannot open shared" in seen.seen) == ("failed", True)
    assert found(HaproxyCheck(), subject(tmp_path, service={"ingress": "proxy"})).state == "skipped"


def test_paths_that_are_too_long_for_sockets_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(PathCheck(), Subject(parse({"name": "t", "features": {"target": "y"}}))).state == "ok"
    monkeypatch.setattr("tempfile.tempdir", "/tmp/" + "x" * 60)
    assert found(PathCheck(), Subject()).state == "failed"


def test_a_configuration_that_is_wrong_is_a_finding_and_takes_no_other_check_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rayline.yaml"
    file.write_text("name: t\nfeatures: {target: y}\ntrian: {}\n")
    seen = found(ConfigCheck(), subject_of(file))
    assert seen.state == "failed"
    assert "trian" in seen.seen
    assert "train" in seen.seen + seen.way_out


MANIFEST = """# Replace every CHANGE-ME.
region: CHANGE-ME # the region of your data
# the role that may
# read the bucket
role: arn:CHANGE-ME

image: rayline:cpu  # no CHANGE-ME here
"""


def test_each_value_that_is_left_to_set_is_listed_with_its_purpose(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "aws.yaml"
    file.write_text(MANIFEST)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfeCHANGE-ME")
    assert [(each.line, each.setting, each.purpose) for each in unset_values(file)] == [
        (2, "region: CHANGE-ME", "the region of your data"),
        (5, "role: arn:CHANGE-ME", "the role that may read the bucket"),
    ]
    findings = ManifestCheck().look(Subject(manifests=(tmp_path,)))
    assert [each.state for each in findings] == ["failed", "failed"]
    assert f"{file}:2 region: CHANGE-ME" in findings[0].seen
    file.write_text("region: eu-central-1\n")
    assert ManifestCheck().look(Subject(manifests=(tmp_path,)))[0].state == "ok"


def test_the_exit_code_and_the_page_tell_of_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rayline.doctor.family.FAMILY", (ConfigCheck(), ManifestCheck()))
    assert run(["doctor"]) == 0
    assert "nothing failed" in capsys.readouterr().out
    (tmp_path / "a.yaml").write_text("key: CHANGE-ME # what for\n")
    assert run(["doctor", "--manifests", "a.yaml", "--manifests", str(tmp_path)]) == 3
    page = capsys.readouterr().out
    assert "a.yaml:1 key: CHANGE-ME" in page
    assert "what for" in page
    assert "2 failed" in page
    assert run(["doctor", "--manifests", "a.yaml", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [each["check"] for each in told["checks"]] == ["config", "cluster files"]


def test_the_file_that_the_variable_names_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYLINE_CONFIG", "elsewhere.yaml")
    monkeypatch.setattr("rayline.doctor.family.FAMILY", (ConfigCheck(),))
    assert run(["doctor", "--json"]) == 3
    assert "'elsewhere.yaml' does not exist" in capsys.readouterr().out
