"""Checkpoints: whole or not at all, checked when they are read, pruned to the best and the last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rayline.training import checkpoint
from rayline.training.checkpoint import MANIFEST, STATE, WEIGHTS
from rayline.training.context import Save


def weights(text: str) -> Save:
    return lambda folder: (folder / WEIGHTS).write_text(text, encoding="utf-8") and None


def written(out: Path, *epochs: int) -> None:
    for epoch in epochs:
        checkpoint.write(out, epoch, weights(f"weights {epoch}"), {"seconds": epoch})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written(tmp_path, 7)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.epoch, found.path, found.state) == (7, checkpoint.folder_of(tmp_path, 7), {"epoch": 7, "seconds": 7})
    assert (found.path / WEIGHTS).read_text() == "weights 7"
    assert checkpoint.read(tmp_path, 6) is None


def test_a_training_without_checkpoints_has_no_latest(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "nowhere") is None


def test_the_last_is_by_number_and_not_by_name(tmp_path: Path) -> None:
    written(tmp_path, 99_999, 100_000)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.epoch == 100_000


def test_a_whole_one_is_never_written_again(tmp_path: Path) -> None:
    written(tmp_path, 1)
    checkpoint.write(tmp_path, 1, weights("other"), {})
    assert (checkpoint.folder_of(tmp_path, 1) / WEIGHTS).read_text() == "weights 1"


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / WEIGHTS).write_text("half")
        raise RuntimeError("no more ink")

    with pytest.raises(RuntimeError, match="no more ink"):
        checkpoint.write(tmp_path, 1, fail, {})
    assert list((tmp_path / checkpoint.FOLDER).iterdir()) == []


@pytest.mark.parametrize("name", [WEIGHTS, STATE, MANIFEST])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_one_is_passed_over_with_a_notice(tmp_path: Path, name: str, damage: str) -> None:
    written(tmp_path, 1, 2)
    file = checkpoint.folder_of(tmp_path, 2) / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else content.replace(b"2", b"3"))
    if content == content.replace(b"2", b"3") and damage == "changed":
        file.write_bytes(content[::-1])
    heard: list[str] = []
    found = checkpoint.latest(tmp_path, heard.append)
    assert found is not None
    assert found.epoch == 1
    assert len(heard) == 1
    assert "epoch-00002' is damaged or half written" in heard[0]
    checkpoint.write(tmp_path, 2, weights("again"), {})  # and a new one takes its place
    assert (checkpoint.folder_of(tmp_path, 2) / WEIGHTS).read_text() == "again"
    assert checkpoint.read(tmp_path, 2) is not None


def test_pruning_keeps_what_it_is_told_and_removes_what_killed_writers_left(tmp_path: Path) -> None:
    written(tmp_path, 1, 2, 3, 4)
    (tmp_path / checkpoint.FOLDER / ".epoch-00005-deadbeef").mkdir()
    checkpoint.prune(tmp_path, [2, 4])
    assert sorted(place.name for place in (tmp_path / checkpoint.FOLDER).iterdir()) == ["epoch-00002", "epoch-00004"]


def test_a_writer_killed_at_any_file_leaves_the_one_before(tmp_path: Path) -> None:
    written(tmp_path, 1)
    script = """
        import os, signal, sys
        from pathlib import Path
        from rayline.training import checkpoint

        at = int(sys.argv[2])
        count = 0

        def die_after(event, args):
            # Every file that is opened for writing, and every rename, is a moment to die at.
            global count
            if event in ("open", "os.rename") and "epoch-00002" in str(args[0]):
                count += 1
                if count > at:
                    os.kill(os.getpid(), signal.SIGKILL)

        def save(folder):
            (folder / checkpoint.WEIGHTS).write_text("weights 2")

        sys.addaudithook(die_after)
        checkpoint.write(Path(sys.argv[1]), 2, save, {})
    """
    ended = []
    for at in range(20):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(at)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
            timeout=60,
        )
        ended.append(done.returncode)
        if done.returncode == 0:
            break
        found = checkpoint.latest(tmp_path)
        assert found is not None
        assert found.epoch == 1
    assert ended[:-1] == [-signal.SIGKILL] * (len(ended) - 1)
    assert ended[-1] == 0
    assert len(ended) > 4
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.epoch == 2
    checkpoint.prune(tmp_path, [2])
    assert [place.name for place in (tmp_path / checkpoint.FOLDER).iterdir()] == ["epoch-00002"]
