"""The ledger of trials: what was kept is read back, whatever a killed writer left."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.training.spec import EpochReport
from rayline.tuning.ledger import Ledger, Trial, events, read, seconds_of

numbers = st.floats(allow_nan=False, allow_infinity=False)
metrics = st.dictionaries(st.text(max_size=8), numbers, max_size=3)
trials = st.builds(
    Trial,
    number=st.integers(0, 999),
    params=st.dictionaries(st.text(max_size=8), numbers | st.text() | st.lists(st.integers()), max_size=3),
    metrics=metrics,
    history=st.lists(st.builds(EpochReport, st.integers(1, 99), metrics, numbers), max_size=3).map(tuple),
    status=st.sampled_from(["finished", "stopped", "failed"]),
    checkpoint=st.none() | st.just(Path("/studies/trial-001/best")),
    error=st.none() | st.text(),
    moves=st.lists(st.tuples(st.integers(1, 99), st.integers(0, 9)), max_size=2).map(tuple),
)


def trial(number: int, loss: float = 0.5) -> Trial:
    history = (EpochReport(1, {"valid_loss": loss}),)
    return Trial(number, {"train.batch_size": 8}, {"valid_loss": loss}, history, "finished", Path("best"))


def append(file: Path, *kept: Trial) -> None:
    ledger = Ledger(file)
    for each in kept:
        ledger.ended(each)
    ledger.close()


@settings(max_examples=40)
@given(st.lists(trials, max_size=5, unique_by=lambda trial: trial.number))
def test_what_was_kept_is_read_back_in_order(kept: list[Trial]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trials.jsonl"
        append(file, *kept)
        assert read(file) == tuple(kept)
        assert len(file.read_bytes().splitlines()) == len(kept) + 1


def test_no_file_means_no_trials(tmp_path: Path) -> None:
    assert read(tmp_path / "trials.jsonl") == ()


def test_a_line_cut_anywhere_is_left_out_and_the_next_one_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "trials.jsonl"
    append(file, trial(0))
    whole = file.read_bytes()
    line = whole.splitlines(keepends=True)[1]
    for cut in range(len(line) - 1):
        file.write_bytes(whole + line[:cut])
        assert read(file) == (trial(0),)
        append(file, trial(1))
        assert read(file) == (trial(0), trial(1))


@pytest.mark.parametrize(
    "line", ["{}", "[]", "7", "null", '{"number": 1}', '{"event":"ended","number":1,"at":0}', "\xff"]
)
def test_a_line_of_something_else_is_left_out(tmp_path: Path, line: str) -> None:
    file = tmp_path / "trials.jsonl"
    file.write_bytes(f"{line}\n".encode("latin-1"))
    append(file, trial(3))
    assert read(file) == (trial(3),)


def test_a_trial_that_stands_there_twice_counts_once(tmp_path: Path) -> None:
    append(tmp_path / "trials.jsonl", trial(0, 0.5), trial(0, 0.25))
    assert read(tmp_path / "trials.jsonl") == (trial(0, 0.5),)


def test_a_metric_that_is_not_finite_is_kept(tmp_path: Path) -> None:
    append(tmp_path / "trials.jsonl", trial(0, math.inf))
    assert read(tmp_path / "trials.jsonl")[0].metrics["valid_loss"] == math.inf


def test_a_trial_is_written_down_before_it_starts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl")
    ledger.suggested(4, {"model.hidden": [8, 4]})
    assert [(each.kind, each.number, each.values) for each in events(tmp_path / "trials.jsonl")] == [
        ("began", -1, {}),
        ("suggested", 4, {"params": {"model.hidden": [8, 4]}}),
    ]
    ledger.close()


def test_the_time_between_attempts_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "trials.jsonl"
    at = [("began", 10.0), ("suggested", 12.0), ("began", 100.0), ("suggested", 101.0), ("suggested", 105.0)]
    file.write_text("".join(f'{{"event": "{kind}", "number": 0, "at": {when}}}\n' for kind, when in at))
    assert seconds_of(events(file)) == 7.0
    assert seconds_of(()) == 0.0
