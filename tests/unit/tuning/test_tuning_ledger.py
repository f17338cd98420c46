"""The ledger of trials: what was kept is read back, whatever a killed writer left."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.training.spec import EpochReport
from rayline.tuning.ledger import Trial, append, read

numbers = st.floats(allow_nan=False, allow_infinity=False)
metrics = st.dictionaries(st.text(max_size=8), numbers, max_size=3)
trials = st.builds(
    Trial,
    number=st.integers(0, 999),
    params=st.dictionaries(st.text(max_size=8), numbers | st.text() | st.lists(st.integers()), max_size=3),
    metrics=metrics,
    history=st.lists(st.builds(EpochReport, st.integers(1, 99), metrics), max_size=3).map(tuple),
    status=st.sampled_from(["finished", "stopped", "failed"]),
    checkpoint=st.none() | st.just(Path("/studies/trial-001/best")),
    error=st.none() | st.text(),
)


def trial(number: int, loss: float = 0.5) -> Trial:
    history = (EpochReport(1, {"valid_loss": loss}),)
    return Trial(number, {"train.batch_size": 8}, {"valid_loss": loss}, history, "finished", Path("best"))


@given(st.lists(trials, max_size=5))
def test_what_was_kept_is_read_back_in_order(kept: list[Trial]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trials.jsonl"
        for each in kept:
            append(file, each)
        assert read(file) == tuple(kept)
        assert not file.exists() or len(file.read_bytes().splitlines()) == len(kept)


def test_no_file_means_no_trials(tmp_path: Path) -> None:
    assert read(tmp_path / "trials.jsonl") == ()


def test_a_line_cut_anywhere_is_left_out_and_the_next_one_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "trials.jsonl"
    append(file, trial(0))
    whole = file.read_bytes()
    for cut in range(len(whole) - 1):
        file.write_bytes(whole + whole[:cut])
        assert read(file) == (trial(0),)
        append(file, trial(1))
        assert read(file) == (trial(0), trial(1))


@pytest.mark.parametrize("line", ["{}", "[]", "7", "null", '{"number": 1}', '{"number":1,"history":3}'])
def test_a_line_of_something_else_is_left_out(tmp_path: Path, line: str) -> None:
    file = tmp_path / "trials.jsonl"
    file.write_text(f"{line}\n")
    append(file, trial(3))
    assert read(file) == (trial(3),)


def test_a_metric_that_is_not_finite_is_kept(tmp_path: Path) -> None:
    append(tmp_path / "trials.jsonl", trial(0, math.inf))
    assert read(tmp_path / "trials.jsonl")[0].metrics["valid_loss"] == math.inf
