"""The rollouts of a service in a file: what the suite of every store (tests/contracts) does not ask of it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from rayline.errors import ServiceError, StaleController
from rayline.rollout import commands, failpoints
from rayline.rollout.plans.plan import Plan, SetWeight
from rayline.rollout.policy.moves import begin
from rayline.rollout.state import RolloutState
from rayline.rollout.storage.journal import mode_for
from rayline.rollout.storage.storage import RolloutFiles
from rollout_doubles import live_version

NAME = "bikes"


def rollout(number: int = 2, message: str = "") -> RolloutState:
    state = begin(
        id=f"r{number}",
        kind="rollout",
        plan=Plan("canary", (SetWeight(10), SetWeight(100))),
        service=NAME,
        stable=live_version(1),
        canary=live_version(number),
        now=10.0,
        experiment="exp",
        tracking_uri=None,
    )
    return replace(state, message=message) if message else state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "services" / NAME


def test_reading_makes_no_file(tmp_path: Path) -> None:
    files = RolloutFiles(tmp_path, NAME)
    assert (files.read(), files.history()) == (None, ())
    assert not files.path.exists()


def test_a_state_that_somebody_else_wrote_is_not_written_over(tmp_path: Path) -> None:
    files = RolloutFiles(tmp_path, NAME)
    files.write(rollout(2))
    with closing(sqlite3.connect(files.path)) as other, other:
        other.execute("UPDATE service SET generation = generation + 1")
    with pytest.raises(StaleController):
        files.write(rollout(2, "blind"))
    assert files.read() == rollout(2)
    files.close()


def test_a_file_made_anew_begins_above_the_numbers_of_the_one_before(tmp_path: Path) -> None:
    files = RolloutFiles(tmp_path, NAME)
    before = files.claim()
    files.close()
    for path in files.path.parent.iterdir():
        path.unlink()
    again = RolloutFiles(tmp_path, NAME)
    assert again.claim() >= before
    again.close()


def test_another_process_reads_while_the_controller_writes(tmp_path: Path) -> None:
    files = RolloutFiles(tmp_path, NAME)
    files.write(rollout(2))
    code = (
        "import sys; from rayline.rollout import commands;"
        "print(commands.status('bikes', storage=sys.argv[1]).message); assert 'ray' not in sys.modules"
    )
    with closing(sqlite3.connect(files.path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE rollouts SET state = 'half written'")
        told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
        writer.execute("ROLLBACK")
    assert told.stdout.strip() == rollout(2).message, told.stderr
    with closing(sqlite3.connect(files.path)) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    files.close()


def as_before_sqlite(folder: Path) -> None:
    """Leave what Rayline 0.5 left: one file for the current rollout, and one for each before it."""
    (folder / "rollouts").mkdir(parents=True)
    for path, state in ((folder / "rollout.json", rollout(3)), (folder / "rollouts" / "r2.json", rollout(2))):
        raw = {**state.to_json(), "format": 1}
        del raw["hooks"]
        path.write_text(json.dumps(raw))


def test_rollouts_of_earlier_versions_are_taken_over_once(tmp_path: Path, folder: Path) -> None:
    as_before_sqlite(folder)
    assert commands.status(NAME, storage=tmp_path).id == "r3", "by the first who reads"
    assert [each.id for each in commands.history(NAME, storage=tmp_path)] == ["r3", "r2"]
    assert sorted(path.name for path in folder.iterdir() if "taken-over" in path.name) == [
        "rollout.json.taken-over",
        "rollouts.taken-over",
    ]
    (folder / "rollout.db").unlink()
    assert RolloutFiles(tmp_path, NAME).read() is None, "whoever moves the file away begins anew"


def test_a_takeover_that_was_cut_off_is_ended(tmp_path: Path, folder: Path) -> None:
    as_before_sqlite(folder)
    kept = (folder / "rollout.json").read_text()
    files = RolloutFiles(tmp_path, NAME)
    files.write(rollout(4))
    (folder / "rollout.json").write_text(kept)  # as if the process had died before it was renamed
    assert [each.id for each in files.history()] == ["r4", "r3", "r2"]
    files.close()


@pytest.mark.parametrize("path", ["rollout.json", "rollouts/r2.json"])
def test_a_damaged_earlier_file_is_named_and_nothing_is_guessed(tmp_path: Path, folder: Path, path: str) -> None:
    as_before_sqlite(folder)
    file = folder / path
    file.write_text(file.read_text()[:50])
    with pytest.raises(ServiceError, match=rf"{path}' is damaged: .*Move the file away"):
        RolloutFiles(tmp_path, NAME).read()
    file.unlink()
    assert RolloutFiles(tmp_path, NAME).history()


def test_a_damaged_database_is_named_and_nothing_is_guessed(tmp_path: Path) -> None:
    files = RolloutFiles(tmp_path, NAME)
    files.write(rollout(2))
    files.close()
    with closing(sqlite3.connect(files.path)) as other, other:
        other.execute("UPDATE rollouts SET state = ?", ('{"format": 99}',))
    with pytest.raises(ServiceError, match=r"rollout\.db'.* has format 99.*Move the file away"):
        files.read()
    files.path.write_bytes(b"not a database, whatever its name says" * 100)
    with pytest.raises(ServiceError, match=r"rollout\.db' is damaged: .*Move the file away"):
        files.read()


def test_a_later_layout_is_refused(tmp_path: Path) -> None:
    files = RolloutFiles(tmp_path, NAME)
    files.claim()
    files.close()
    with closing(sqlite3.connect(files.path)) as other, other:
        other.execute("PRAGMA user_version = 7")
    with pytest.raises(ServiceError, match="has layout 7; this version of Rayline reads 1"):
        files.read()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("ext4", "WAL"), ("overlay", "WAL"), ("nfs4", "DELETE"), ("cifs", "DELETE"), ("fuse.sshfs", "DELETE")],
)
def test_a_shared_file_system_gets_a_journal_that_works_across_machines(tmp_path: Path, kind: str, mode: str) -> None:
    mounts = tmp_path / "mounts"
    shared = tmp_path / "with space"
    shown = str(shared).replace(" ", "\\040")
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x {shown} {kind} rw 0 0\nproc /proc proc rw 0 0\n")
    assert mode_for(shared / "services", mounts) == mode
    assert mode_for(tmp_path, mounts) == "WAL"
    assert mode_for(tmp_path, tmp_path / "no such file") == "WAL"


@pytest.mark.parametrize(("point", "there"), [("write.before", False), ("write.after", True)])
def test_a_failpoint_kills_the_process_where_it_says(tmp_path: Path, point: str, there: bool) -> None:
    process = os.fork()
    if process == 0:
        failpoints.arm(point, 2)
        files = RolloutFiles(tmp_path, NAME)
        files.write(rollout(2))
        files.write(rollout(3))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -9
    state = RolloutFiles(tmp_path, NAME).read()
    assert state is not None
    assert state.id == ("r3" if there else "r2")
