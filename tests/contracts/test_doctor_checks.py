"""Every check of the doctor keeps its promises: it says what it saw, gives a way out, ends in time, changes nothing."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rayline import config
from rayline.doctor import Check, Finding, Subject, examine
from rayline.doctor.family import FAMILY
from rayline.doctor.subject import subject_of
from rayline.processes import listed

BOUND_S = 60.0
each_check = pytest.mark.parametrize("check", FAMILY, ids=lambda check: check.name)


@pytest.fixture
def silent() -> Iterator[int]:
    """A server that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def project(folder: Path, **sections: object) -> Path:
    file = folder / "rayline.yaml"
    values = {"name": "table", "data": {"source": "t.csv"}, "features": {"target": "y"}, "service": {"port": 22_230}}
    file.write_text(json.dumps({**values, **sections}))
    return file


def files(folder: Path) -> dict[str, float]:
    return {str(each): each.stat().st_mtime for each in folder.rglob("*")}


def test_names_are_different() -> None:
    assert len({check.name for check in FAMILY}) == len(FAMILY)


def promises(findings: tuple[Finding, ...]) -> None:
    assert findings
    for each in findings:
        assert each.seen.strip()
        assert each.state in ("ok", "notice", "failed", "skipped")
        assert each.way_out.strip() or each.state != "failed"
        assert "the check broke" not in each.seen


@each_check
def test_a_check_of_nothing_and_of_a_project_says_what_it_saw_and_changes_nothing(check: Check, tmp_path: Path) -> None:
    file = project(tmp_path)
    (tmp_path / ".rayline").mkdir()
    before = set(files(tmp_path))
    for subject in (Subject(), subject_of(file, [file])):
        (found,) = examine(subject, [check], BOUND_S).checks
        promises(found.findings)
    assert set(files(tmp_path)) == before
    assert not [each for each in listed() if each.parent == os.getpid() and "ray start" in each.command]


@each_check
def test_a_check_ends_where_everything_it_asks_is_silent(
    check: Check, tmp_path: Path, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayline.doctor.cluster_check.ASK_SECONDS", 3.0)
    monkeypatch.setattr("rayline.doctor.mlflow_check.ASK_SECONDS", 2.0)
    file = project(tmp_path, registry={"tracking_uri": f"http://127.0.0.1:{silent}"}, service={"port": silent})
    subject = Subject(config.load(file), file, "", f"127.0.0.1:{silent}")
    began = time.monotonic()
    (found,) = examine(subject, [check], BOUND_S).checks
    assert time.monotonic() - began < BOUND_S
    promises(found.findings)
    if check.name in ("MLflow", "cluster", "ports"):
        assert "failed" in {each.state for each in found.findings}


def test_all_checks_are_asked_at_once_and_the_slowest_is_not_waited_for_beyond_its_bound() -> None:
    release = threading.Event()

    class Hangs:
        name = "hangs"

        def look(self, subject: Subject) -> list[Finding]:
            release.wait()
            return [Finding("ok", "at last")]

    class Breaks:
        name = "breaks"

        def look(self, subject: Subject) -> list[Finding]:
            raise ZeroDivisionError("oh")

    class Fine:
        name = "fine"

        def look(self, subject: Subject) -> list[Finding]:
            return [Finding("ok", "fine")]

    report = examine(Subject(), [Hangs(), Breaks(), Fine()], seconds=0.5)
    release.set()
    assert [each.check for each in report.checks] == ["hangs", "breaks", "fine"]
    hangs, breaks, fine = (each.findings[0] for each in report.checks)
    assert (hangs.state, hangs.seen) == ("failed", "no answer within 0.5 s")
    assert (breaks.state, breaks.seen) == ("failed", "the check broke: ZeroDivisionError: oh")
    assert fine.state == "ok"
    assert not report.ok
    assert report.to_json()["checks"][2]["findings"] == ({"state": "ok", "seen": "fine", "way_out": ""},)
