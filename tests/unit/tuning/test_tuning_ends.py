"""How what Ray Tune tells of its trials becomes our own record of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayline.config import Space
from rayline.tuning import ledger
from rayline.tuning.ledger import Trial
from rayline.tuning.study import ENDED, _Ends, _last_line, _most_epochs
from training_examples import spec_of, study_config


def report(epoch: int, loss: float, last: bool = False) -> dict[str, Any]:
    return {"epoch": epoch, "valid_loss": loss, "last": last, "time_this_iter_s": 0.1, "trial_id": "x"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the folder of a trial whose best epoch had a loss of 0.25."""
    best = tmp_path / "trial-000" / "best"
    best.mkdir(parents=True)
    (best / "state.json").write_text(json.dumps({"epoch": 2, "metrics": {"valid_loss": 0.25}}))
    return best.parent


def ended(ends: _Ends, folder: Path, error: str | None = None) -> None:
    ends.ended(0, {"train.batch_size": 8}, folder, error)


def test_a_trial_that_told_its_end_is_finished(tmp_path: Path, folder: Path) -> None:
    told: list[Trial] = []
    ends = _Ends(tmp_path / "trials.jsonl", told.append)
    for epoch, loss in enumerate((0.5, 0.25, 0.75), start=1):
        ends.reported(0, report(epoch, loss))
    (folder / ENDED).touch()
    ended(ends, folder)
    assert told == list(ledger.read(tmp_path / "trials.jsonl"))
    assert (told[0].status, told[0].metrics, told[0].checkpoint) == ("finished", {"valid_loss": 0.25}, folder / "best")
    assert [(each.epoch, each.metrics) for each in told[0].history] == [
        (1, {"valid_loss": 0.5}),
        (2, {"valid_loss": 0.25}),
        (3, {"valid_loss": 0.75}),
    ]


def test_a_trial_whose_end_was_not_told_was_stopped(tmp_path: Path, folder: Path) -> None:
    told: list[Trial] = []
    ends = _Ends(tmp_path / "trials.jsonl", told.append)
    ends.reported(0, report(1, 0.25))
    ended(ends, folder)
    assert (told[0].status, told[0].checkpoint) == ("stopped", folder / "best")


def test_a_trial_stopped_after_its_last_epoch_is_finished(tmp_path: Path, folder: Path) -> None:
    told: list[Trial] = []
    ends = _Ends(tmp_path / "trials.jsonl", told.append)
    ends.reported(0, report(1, 0.25, last=True))
    ended(ends, folder)
    assert told[0].status == "finished"


def test_a_failed_trial_has_a_reason_and_no_checkpoint(tmp_path: Path, folder: Path) -> None:
    told: list[Trial] = []
    ended(_Ends(tmp_path / "trials.jsonl", told.append), folder, "the loss is nan")
    assert (told[0].status, told[0].checkpoint, told[0].error) == ("failed", None, "the loss is nan")


def test_a_trial_that_wrote_nothing_has_no_checkpoint(tmp_path: Path) -> None:
    told: list[Trial] = []
    ended(_Ends(tmp_path / "trials.jsonl", told.append), tmp_path / "trial-000")
    assert (told[0].metrics, told[0].checkpoint) == ({}, None)


def test_a_failing_listener_loses_no_trial_and_its_first_failure_is_kept(tmp_path: Path, folder: Path) -> None:
    failures = iter([OSError("first"), OSError("second")])

    def listen(trial: Trial) -> None:
        raise next(failures)

    ends = _Ends(tmp_path / "trials.jsonl", listen)
    ended(ends, folder)
    ended(ends, folder)
    assert str(ends.failure) == "first"
    assert len(ledger.read(tmp_path / "trials.jsonl")) == 2


def test_the_reason_of_a_failure_is_the_last_line_of_its_trace(tmp_path: Path) -> None:
    (tmp_path / "error.txt").write_text("Traceback:\n  line 3\nTrainingFailed: the loss is nan\n\n")
    assert _last_line(str(tmp_path / "error.txt")) == "TrainingFailed: the loss is nan"
    assert _last_line(None) == _last_line(str(tmp_path / "missing.txt")) == "it ended without a word"


@pytest.mark.parametrize(
    ("space", "epochs"),
    [
        ({}, 3),
        ({"train.epochs": Space(choose=(5, 20, 10))}, 20),
        ({"train.epochs": Space(low=5, high=40, integer=True)}, 40),
    ],
)
def test_the_scheduler_gives_the_longest_trial_its_time(space: dict[str, Space], epochs: int) -> None:
    assert _most_epochs(study_config(space, spec_of(epochs=3)), space) == epochs
