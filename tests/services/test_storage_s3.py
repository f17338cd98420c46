"""The storage seam over a real S3 protocol, and what only an object store can do wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from rayline import storage as seam
from rayline.errors import CheckFailed, StorageError
from rayline.storage import leases
from rayline.storage.leases import Holder
from rayline.storage.objects import Objects, objects
from storage_suite import Node, StorageSuite, filled, held_by, written
from team_services import Bucket, free_port


@pytest.fixture
def storage(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty storage."""
    for name, value in bucket.env.items():
        monkeypatch.setenv(name, value)
    return f"s3://{bucket.name}/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def node(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    def go(name: str) -> Path:
        monkeypatch.setenv("RAYLINE_SCRATCH", str(tmp_path / name))
        return seam.folder_of(storage)

    return go


class TestS3(StorageSuite):
    """Nodes with a disk each, and one bucket."""


def process(code: str, *arguments: str, scratch: Path) -> subprocess.Popen[str]:
    """Run Python code with the seam imported, as on a node of its own."""
    head = "import os, signal, sys, time\nfrom pathlib import Path\nfrom rayline import storage as seam\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAYLINE_SCRATCH": str(scratch)},
    )


DIES = """
from rayline.storage.objects import Objects
put, left = Objects.put, [int(sys.argv[2])]
def dying(self, key, content):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return put(self, key, content)
Objects.put = dying
seam.keep(seam.folder_of(sys.argv[1]) / "bundle")
print("kept")
"""
FILES = {f"part-{number}": "new" for number in range(4)}


@pytest.mark.parametrize("requests", [0, 2, 4])
def test_a_writer_that_is_killed_leaves_the_folder_as_it_was(
    storage: str, node: Node, tmp_path: Path, requests: int
) -> None:
    old = dict.fromkeys(FILES, "old")
    seam.keep(filled(node("writer") / "bundle", old))
    filled(node("writer") / "bundle", FILES)
    with process(DIES, storage, str(requests), scratch=tmp_path / "writer") as writer:
        assert writer.wait(60) == -signal.SIGKILL
    assert held_by(seam.fetch(node("reader") / "bundle")) == old
    node("writer")
    seam.keep(seam.folder_of(storage) / "bundle")
    assert held_by(seam.refresh(node("reader") / "bundle")) == FILES


def test_a_first_folder_whose_writer_is_killed_is_not_there(storage: str, node: Node, tmp_path: Path) -> None:
    filled(node("writer") / "bundle", FILES)
    with process(DIES, storage, "3", scratch=tmp_path / "writer") as writer:
        assert writer.wait(60) == -signal.SIGKILL
    root = node("reader")
    assert not seam.exists(root / "bundle")
    assert seam.names(root) == []
    assert not seam.fetch(root / "bundle").exists()


def test_who_reads_while_a_folder_is_replaced_sees_one_state_of_it(storage: str, node: Node) -> None:
    writer, reader = node("writer"), node("reader")
    seam.keep(filled(writer / "model", dict.fromkeys(FILES, "0")))
    ended, states = threading.Event(), list[set[str]]()

    def replace_all() -> None:
        for number in range(1, 25):
            seam.keep(filled(writer / "model", dict.fromkeys(FILES, str(number))))
        ended.set()

    thread = threading.Thread(target=replace_all)
    thread.start()
    while not ended.is_set():
        states.append(set(held_by(seam.refresh(reader / "model")).values()))
    thread.join()
    assert all(len(state) == 1 for state in states)
    assert len({next(iter(state)) for state in states}) > 1, "it was read while it changed"
    assert set(held_by(seam.refresh(reader / "model")).values()) == {"24"}


def test_what_was_replaced_and_forgotten_costs_no_room(storage: str, node: Node, bucket: Bucket) -> None:
    prefix = storage.removeprefix(f"s3://{bucket.name}/")
    for text in ("one", "two", "three"):
        seam.keep(filled(node("a") / "run" / "epoch-1", {"w": text, "deep/x": text}))
    assert len(bucket.keys(prefix)) == 3, "two files, and the object that names them"
    seam.forget(node("b") / "run")
    assert bucket.keys(prefix) == []


def test_files_that_other_nodes_have_kept_are_not_sent_again(
    storage: str, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = written(node("worker") / ".draft-1" / "train" / "piece", "rows")
    seam.keep(piece)
    folder, sent = filled(node("driver") / "parts", {"parts.json": "{}"}), list[str]()
    put = Objects.put
    monkeypatch.setattr(Objects, "put", lambda self, key, content: (sent.append(key), put(self, key, content))[1])
    seam.keep(folder, {"train/0": node("driver") / ".draft-1" / "train" / "piece"})
    assert [key.rpartition("/")[2] for key in sent] == ["parts.json", "parts.kept"]
    assert held_by(folder) == {"parts.json": "{}", "train/0": "rows"}
    assert seam.fetch_part(node("third") / "parts", "train/0").read_text() == "rows"


def test_a_path_of_another_users_scratch_folder_is_found_in_our_own(node: Node, tmp_path: Path) -> None:
    path = written(node("a") / "served" / "churn-1" / "manifest.json", "m").parent
    seam.keep(path)
    (tmp_path / "a").rename(tmp_path / "gone")
    node("b")
    assert seam.fetch(path) == node("b") / "served" / "churn-1"
    assert held_by(seam.fetch(path)) == {"manifest.json": "m"}


def test_what_is_kept_in_the_background_is_there_after_settling(node: Node) -> None:
    for text in ("one", "two"):
        seam.keep_soon(written(node("a") / "log.jsonl", text))
    seam.keep_soon(filled(node("a") / "epoch-1", {"w": "1"}))
    seam.keep_soon(filled(node("a") / "epoch-2", {"w": "2"}))
    seam.forget_soon(node("a") / "epoch-1")
    seam.settle()
    assert seam.names(node("b")) == ["epoch-2", "log.jsonl"]
    assert seam.fetch(node("b") / "log.jsonl").read_text() == "two"


HOLDS = """
with seam.held(seam.folder_of(sys.argv[1]) / "lock", "project 'churn'"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_who_comes_after_a_holder_that_was_killed_here_need_not_wait(storage: str, node: Node, tmp_path: Path) -> None:
    with process(HOLDS, storage, scratch=tmp_path / "first") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait()
    began = time.monotonic()
    with seam.held(node("second") / "lock", "project 'churn'"):
        assert time.monotonic() - began < leases.LEASE_SECONDS


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short leases."""
    for name, seconds in (("LEASE_SECONDS", 2.0), ("RENEW_SECONDS", 0.2), ("LOOK_SECONDS", 0.05)):
        monkeypatch.setattr(leases, name, seconds)


def other(storage: str, bucket: Bucket, **changes: object) -> Objects:
    """Leave the lease of a holder on another machine, and return what it is renewed with."""
    found = objects("s3", bucket.name)
    key = f"{storage.removeprefix(f's3://{bucket.name}/')}/lock"
    found.put(key, json.dumps(asdict(replace(Holder.this(), host="node-7", **changes))).encode())  # type: ignore[arg-type]
    return found


@pytest.mark.usefixtures("quick")
def test_a_lease_that_nobody_renews_is_taken_over(storage: str, node: Node, bucket: Bucket) -> None:
    other(storage, bucket)
    began = time.monotonic()
    with seam.held(node("b") / "lock", "project 'churn'"):
        assert time.monotonic() - began >= leases.LEASE_SECONDS


@pytest.mark.usefixtures("quick")
def test_a_holder_on_another_machine_is_named_with_its_job(storage: str, node: Node, bucket: Bucket) -> None:
    other(storage, bucket, process=42, job="raysubmit_7", since="2026-01-02 03:04:05 UTC")
    stop = threading.Event()

    def renew() -> None:
        number = 0
        while not stop.wait(0.1):
            number += 1
            other(storage, bucket, process=42, job="raysubmit_7", since="2026-01-02 03:04:05 UTC", boot=str(number))

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        words = r"'churn' is being run by process 42 on node-7 \(job raysubmit_7\), since 2026-01-02 03:04:05 UTC"
        with pytest.raises(CheckFailed, match=words), seam.held(node("b") / "lock", "project 'churn'"):
            pytest.fail("two at once")
    finally:
        stop.set()
        thread.join()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background"])
def test_a_driver_that_lost_its_lease_is_stopped_and_told(
    storage: str, node: Node, bucket: Bucket, handler: Any
) -> None:
    def work() -> None:
        with seam.held(node("b") / "lock", "project 'churn'"):
            other(storage, bucket)
            time.sleep(30)  # until the interrupt
            pytest.fail("nobody said a word")

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(CheckFailed, match=r"project 'churn' was taken over by process \d+ on node-7"):
            work()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_bucket_that_is_not_there_is_named_with_a_way_out(node: Node, storage: str) -> None:
    path = seam.folder_of("s3://no-such-bucket/x")
    with pytest.raises(StorageError, match=r"'s3://no-such-bucket' cannot be used: there is no such bucket. Create it"):
        seam.keep(written(path / "f.json", "x"))
    with pytest.raises(StorageError, match="no such bucket"):
        seam.fetch(path / "g.json")


def test_a_store_that_cannot_be_reached_is_told_after_a_bounded_time(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node("a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("rayline.storage.objects.RETRIES", 1)
    with pytest.raises(StorageError, match=r"cannot read 's3://away/f.json': .*AWS_ENDPOINT_URL"):
        seam.fetch(seam.folder_of("s3://away") / "f.json")
