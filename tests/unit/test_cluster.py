"""The local head's processes are found without any program, one head is started at a time, and none is left behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from rayline import cluster, processes
from rayline.errors import ClusterError

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


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[cluster.LocalCluster]:
    """Heads that are started in name only; a state of theirs lies on disk."""
    started: list[cluster.LocalCluster] = []

    def start(storage: Path, port: int, settings: dict[str, str], gcs_storage: str, cpus: int | None = None) -> object:
        state = settings.get("RAY_gcs_storage_path")
        if state:
            Path(state).mkdir(exist_ok=True)
        head = cluster.LocalCluster(2**22 + len(started), f"127.0.0.1:{port}", "t", "l", settings, gcs_storage, cpus)
        started.append(head)
        cluster._write(cluster._record(storage), json.dumps(asdict(head)))
        return head

    monkeypatch.setattr(cluster, "_start_head", start)
    monkeypatch.setattr(cluster.tempfile, "gettempdir", lambda: str(tmp_path))
    return started


def test_a_dead_head_that_kept_its_state_comes_back_on_its_port_with_what_it_was_started_with(
    heads: list[cluster.LocalCluster], tmp_path: Path
) -> None:
    first = cluster._start(tmp_path, {"A": "1"}, "rocksdb")
    assert first.environment["RAY_gcs_storage"] == "rocksdb"
    assert cluster.alive(tmp_path) is None
    assert cluster.last(tmp_path) == first
    again = cluster._start(tmp_path, {"A": "2"}, "rocksdb")
    assert (again.address, again.environment, again.gcs_storage) == (first.address, first.environment, "rocksdb")


@pytest.mark.parametrize(("before", "now"), [("memory", "memory"), ("memory", "rocksdb"), ("rocksdb", "memory")])
def test_any_other_dead_head_is_followed_by_a_fresh_one(
    heads: list[cluster.LocalCluster], tmp_path: Path, before: cluster.GcsStorage, now: cluster.GcsStorage
) -> None:
    cluster._start(tmp_path, {"A": "1"}, before)
    left = cluster._state_folder(tmp_path) / "left"
    if before == "rocksdb":
        left.touch()
    again = cluster._start(tmp_path, {"A": "2"}, now)
    assert (again.environment["A"], again.gcs_storage) == ("2", now)
    assert not left.exists()


def test_a_state_that_no_head_can_use_is_given_up(
    heads: list[cluster.LocalCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cluster._start(tmp_path, {}, "rocksdb")
    (cluster._state_folder(tmp_path) / "left").touch()
    start, tried = cluster._start_head, []

    def refuse(storage: Path, port: int, *rest: object) -> object:
        if port == first.port:
            tried.append(port)
            raise ClusterError("the file is damaged")
        return start(storage, port, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cluster, "_start_head", refuse)
    again = cluster._start(tmp_path, {}, "rocksdb")
    assert len(tried) == cluster.RETURN_TRIES
    assert again.port != first.port
    assert not (cluster._state_folder(tmp_path) / "left").exists()


def test_what_was_stopped_does_not_come_back(heads: list[cluster.LocalCluster], tmp_path: Path) -> None:
    cluster._start(tmp_path, {}, "rocksdb")
    assert not cluster.stop(tmp_path)
    assert cluster.last(tmp_path) is None
    assert not cluster._state_folder(tmp_path).exists()


def test_the_ingress_that_a_dead_head_left_is_ended_and_no_other(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)", "-f"]
    with (
        subprocess.Popen([*sleep, f"{tmp_path}/run/node/haproxy.cfg"]) as left,
        subprocess.Popen([*sleep, f"{tmp_path}/runner/haproxy.cfg"]) as other,
    ):
        settings = {cluster.INGRESS_SETTINGS: f"{tmp_path}/run/haproxy.cfg"}
        dead = cluster.LocalCluster(2**22, "127.0.0.1:1", "t", "l", settings)
        cluster._write(cluster._record(tmp_path), json.dumps(asdict(dead)))
        cluster.end_leftovers(tmp_path)
        assert left.wait(10) == -signal.SIGKILL
        assert other.poll() is None
        other.kill()
