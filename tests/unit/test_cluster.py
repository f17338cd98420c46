"""The local head's processes are found without any program, one head is started at a time, and none is left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayline import cluster, processes

SLEEPER = (
    "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
)
SLEEPER += "; print(child.pid, flush=True); time.sleep(60)"


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    command = [sys.executable, "-c", SLEEPER, "start --head"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        yield parent, child
        for pid in (parent.pid, child):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue


@pytest.mark.parametrize("source", ["proc", "ps"])
def test_processes_are_found(
    family: tuple[subprocess.Popen[bytes], int], source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if source == "proc":
        if not Path("/proc/self/stat").exists():
            pytest.skip("this system has no /proc")
        monkeypatch.setenv("PATH", str(tmp_path))
    elif shutil.which("ps") is None:
        pytest.skip("this system has no ps")
    else:
        monkeypatch.setattr(processes, "PROC", tmp_path)
    parent, child = family
    assert cluster._is_head(parent.pid)
    assert not cluster._is_head(child)
    assert set(processes.descendants(parent.pid)) == {child}
    parent.kill()
    parent.wait()
    assert not cluster._is_head(parent.pid)


def test_an_interrupted_start_leaves_no_head(
    family: tuple[subprocess.Popen[bytes], int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parent, child = family

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster.subprocess, "Popen", lambda *_, **__: parent)
    monkeypatch.setattr(cluster, "_await_address", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cluster._start(tmp_path, {}, "memory")
    assert parent.returncode is not None
    deadline = time.monotonic() + 10
    while any(each.state[0] != "Z" for each in processes.listed(child)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(each.state[0] == "Z" for each in processes.listed(child))
    assert cluster.alive(tmp_path) is None
    assert parent.pid not in cluster._heads


def test_one_command_at_a_time_starts_a_head(tmp_path: Path) -> None:
    file = tmp_path / "new" / "cluster.lock"
    with cluster._only_one(file.parent), file.open("a") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with file.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
