"""Each example runs as it stands."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("[0-9]*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_runs(script: Path, tmp_path: Path) -> None:
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port = candidate.getsockname()[1]
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "state"), str(port)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_each_example_says_what_it_shows() -> None:
    assert EXAMPLES
    for script in EXAMPLES:
        assert script.read_text(encoding="utf-8").startswith('"""')
