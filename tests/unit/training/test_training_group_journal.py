"""What workers tell reaches the listener in the driver: each epoch once, in order, whatever was killed on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.errors import DataError, RowError, TrainingFailed
from rayline.training import group_journal
from rayline.training.group_journal import FILE, GroupMember, JournalReader
from rayline.training.spec import EpochReport


def heard(out: Path) -> list[EpochReport]:
    """Return what a listener hears of a journal that is complete."""
    found: list[EpochReport] = []
    with JournalReader(out, found.append, lambda text: None):
        pass
    return found


@given(restarts=st.lists(st.integers(0, 5), max_size=4))
def test_epochs_that_are_told_again_are_heard_once(
    tmp_path_factory: pytest.TempPathFactory, restarts: list[int]
) -> None:
    """Each start of the group tells its epochs from the first on; the last comes to the end."""
    out = tmp_path_factory.mktemp("journal")
    for attempt, last in enumerate([*restarts, 6]):
        for epoch in range(1, last + 1):
            group_journal.tell_epoch(out, EpochReport(epoch, {"valid_loss": 1 / epoch}, float(attempt)), 2)
    assert [report.epoch for report in heard(out)] == [1, 2, 3, 4, 5, 6]


def test_a_line_that_a_killed_worker_left_half_is_passed_over(tmp_path: Path) -> None:
    group_journal.tell_epoch(tmp_path, EpochReport(1, {"valid_loss": 0.5}, 7.0), 2)
    with (tmp_path / FILE).open("ab") as journal:
        journal.write(b'{"epoch": 2, "metr')
    assert [report.epoch for report in heard(tmp_path)] == [1]
    with (tmp_path / FILE).open("ab") as journal:
        journal.write(b"\n")
    group_journal.tell_epoch(tmp_path, EpochReport(2, {"valid_loss": 0.25}, 8.0), 1)
    assert heard(tmp_path) == [EpochReport(1, {"valid_loss": 0.5}, 7.0), EpochReport(2, {"valid_loss": 0.25}, 8.0)]
    assert group_journal.worlds(tmp_path) == {1: 2, 2: 1}


def test_a_failing_listener_is_asked_no_more_and_its_failure_kept(tmp_path: Path) -> None:
    asked: list[int] = []

    def listen(report: EpochReport) -> None:
        asked.append(report.epoch)
        if report.epoch == 2:
            raise OSError("disk full")

    for epoch in (1, 2, 3):
        group_journal.tell_epoch(tmp_path, EpochReport(epoch, {}), 2)
    with JournalReader(tmp_path, listen, lambda text: None) as reader:
        pass
    assert asked == [1, 2]
    with pytest.raises(OSError, match="disk full"):
        reader.raise_failure()


def test_processes_and_notices_are_told(tmp_path: Path) -> None:
    notices: list[str] = []
    member = GroupMember(1, 2, 4711, "a-node")
    group_journal.tell_member(tmp_path, member)
    group_journal.tell_notice(tmp_path, "a checkpoint is damaged")
    with JournalReader(tmp_path, lambda report: None, notices.append):
        pass
    assert group_journal.members(tmp_path) == [member]
    assert notices == ["a checkpoint is damaged"]
    group_journal.clear(tmp_path)
    assert group_journal.members(tmp_path) == []


def test_a_failure_that_would_come_again_keeps_its_kind(tmp_path: Path) -> None:
    assert group_journal.failure(tmp_path) is None
    group_journal.tell_failure(tmp_path, DataError("too few rows"))
    found = group_journal.failure(tmp_path)
    assert isinstance(found, DataError)
    assert str(found) == "too few rows"


def test_a_failure_of_several_parts_becomes_a_failed_training(tmp_path: Path) -> None:
    group_journal.tell_failure(tmp_path, RowError(3, "size", -1, "must be positive"))
    assert str(group_journal.failure(tmp_path)) == "row 3, column 'size': -1 must be positive"
    assert isinstance(group_journal.failure(tmp_path), TrainingFailed)
