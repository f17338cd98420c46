"""Where a Run came from."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rayline.registry.provenance import code_commit, environment


def test_the_environment_tells_versions_without_importing_them() -> None:
    script = (
        "import json, sys; from rayline.registry.provenance import environment; found = environment();"
        "print(json.dumps([found, [name for name in ('ray', 'torch', 'mlflow', 'numpy') if name in sys.modules]]))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found, loaded = json.loads(done.stdout)

    assert loaded == []
    assert found == environment()
    assert found["python"] == platform.python_version()
    assert {"ray", "torch", "mlflow", "rayline"} <= found.keys()


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e@example.org", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_a_repository_and_whether_it_was_changed(tmp_path: Path) -> None:
    assert code_commit(tmp_path) is None
    git(tmp_path, "init")
    assert code_commit(tmp_path) is None
    (tmp_path / "model.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")

    assert code_commit(tmp_path) == commit
    (tmp_path / "result.bin").write_text("not tracked")
    assert code_commit(tmp_path) == commit
    (tmp_path / "model.py").write_text("2")
    assert code_commit(tmp_path) == f"{commit}-dirty"


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert code_commit(Path(__file__).parent) is None
