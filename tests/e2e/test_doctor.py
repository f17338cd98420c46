"""`rayline doctor` on a good set-up, and on broken ones: each is broken for real, and that alone is what fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rayline.cli.app import run

PORT = 22_240
OLDER = """
import sys, sqlalchemy
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import InitialBase, _get_alembic_config
uri = f"sqlite:///{sys.argv[1]}"
InitialBase.metadata.create_all(sqlalchemy.create_engine(uri))
settings = _get_alembic_config(uri)
revisions = [each.revision for each in ScriptDirectory.from_config(settings).walk_revisions()]
command.upgrade(settings, revisions[3])
"""
"""Makes the tables that MLflow had three migrations ago, by MLflow's own migrations."""


@pytest.fixture(autouse=True)
def in_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state").mkdir()
    project()


def project(**sections: Any) -> None:
    values = {"name": "bikes", "data": {"source": "bikes.csv"}, "features": {"target": "cnt"}, "storage": "state"}
    Path("rayline.yaml").write_text(json.dumps({**values, "service": {"port": PORT}, **sections}))


@contextmanager
def another_program() -> Iterator[None]:
    program = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", str(PORT), "--bind", "127.0.0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert program.stdout is not None
        assert b"Serving" in program.stdout.readline()
        yield
    finally:
        program.terminate()
        program.communicate()


@contextmanager
def mounted(options: str) -> Iterator[None]:
    """Put a small file system of its own under the storage."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", "state"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", "state"], check=True)


@contextmanager
def nearly_full() -> Iterator[None]:
    with mounted("size=64m"):
        Path("state/data").write_bytes(bytes(62 * 2**20))
        yield


@contextmanager
def older_database() -> Iterator[None]:
    subprocess.run([sys.executable, "-W", "ignore", "-c", OLDER, "state/mlflow.db"], check=True, capture_output=True)
    yield


@contextmanager
def server_down() -> Iterator[None]:
    project(registry={"tracking_uri": "http://127.0.0.1:22241"})
    yield


@contextmanager
def without_haproxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", "/opt/haproxy/haproxy")
        yield


@contextmanager
def unset_values() -> Iterator[None]:
    Path("cluster").mkdir()
    Path("cluster/aws.yaml").write_text("provider:\n  region: CHANGE-ME # the region that your data lies in\n")
    yield


def can_mount() -> bool:
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    script = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(script, capture_output=True, check=False).returncode == 0


mounts = pytest.mark.skipif(not can_mount(), reason="a file system of its own needs rights that this user has not")


def examined(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    code = run(["doctor", *arguments, "--json"])
    told = json.loads(capsys.readouterr().out)
    return code, {each["check"]: each["findings"] for each in told["checks"]}


def failed(found: dict[str, list[dict[str, str]]]) -> set[str]:
    return {name for name, findings in found.items() if any(each["state"] == "failed" for each in findings)}


def test_nothing_fails_on_a_good_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = examined(capsys)
    assert (code, failed(found)) == (0, set())
    assert [each["state"] for each in found["storage"] + found["MLflow"] + found["HAProxy"]] == ["ok"] * 3
    assert not list(Path("state").iterdir())


@pytest.mark.parametrize(
    ("broken", "check", "words", "way_out"),
    [
        (another_program, "ports", "http.server", "service.port"),
        pytest.param(lambda: mounted("ro,size=4g"), "storage", "Read-only file system", "'storage'", marks=mounts),
        pytest.param(nearly_full, "disk", "Ray stops taking work at 95%", "Make room", marks=mounts),
        (older_database, "MLflow", "3 migrations behind", "mlflow db upgrade"),
        (server_down, "MLflow", "does not answer", "Start it"),
        (without_haproxy, "HAProxy", "'/opt/haproxy/haproxy' (RAY_SERVE_HAPROXY_BINARY_PATH)", "Unset"),
        (unset_values, "cluster files", "cluster/aws.yaml:2 region: CHANGE-ME", "the region that your data lies in"),
    ],
    ids=["port", "read-only", "full", "older", "down", "haproxy", "unset"],
)
def test_what_is_broken_fails_alone_and_names_its_way_out(
    capsys: pytest.CaptureFixture[str], broken: Callable[[], Any], check: str, words: str, way_out: str
) -> None:
    with ExitStack() as stack:
        stack.enter_context(broken())
        began = time.monotonic()
        code, found = examined(capsys, *(["--manifests", "cluster"] if Path("cluster").is_dir() else []))
        assert time.monotonic() - began < 60
    assert (code, failed(found)) == (3, {check})
    said = [each for each in found[check] if each["state"] == "failed"]
    assert words in said[0]["seen"]
    assert way_out in said[0]["way_out"]
