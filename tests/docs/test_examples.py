"""Each example runs as it stands; the last one, the whole loop, is sent as a job in `tests/e2e/test_jobs_story.py`."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("[0-9]*.py"))


HERE = [script for script in EXAMPLES if script.stem != "07_full_loop"]
LONG = 400


@pytest.mark.parametrize("script", HERE, ids=lambda script: script.stem)
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
        timeout=LONG,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_each_example_says_what_it_shows() -> None:
    assert [script.stem[:2] for script in EXAMPLES] == [f"{number:02d}" for number in range(1, len(EXAMPLES) + 1)]
    for script in EXAMPLES:
        assert script.read_text(encoding="utf-8").startswith('"""')
