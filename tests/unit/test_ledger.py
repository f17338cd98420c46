"""Finished steps are kept whole or not at all, and two drivers never work on one project."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.errors import CheckFailed
from rayline.ledger import Ledger, Record, key_of

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=4), each, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=6))
def test_a_key_does_not_depend_on_the_order_of_a_mapping(values: dict[str, object]) -> None:
    assert key_of("train", values) == key_of("train", dict(reversed(values.items())))


def test_a_key_changes_with_the_step_and_with_any_part() -> None:
    keys = {key_of("train", 1), key_of("tune", 1), key_of("train", 2), key_of("train", 1, 1), key_of("train", [1, 1])}
    assert len(keys) == 5


def test_a_finished_step_is_found_again(tmp_path: Path) -> None:
    record = Record("train", key_of(1), 1.5, {"metrics": {"loss": 0.25}})
    Ledger(tmp_path).write(record)
    assert Ledger(tmp_path).find("train", key_of(1)) == record
    assert Ledger(tmp_path).find("train", key_of(2)) is None
    assert Ledger(tmp_path).find("tune", key_of(1)) is None


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"step": "train"}', '{"step":"x","key":"y","seconds":1,"result":{}}']
)
def test_a_damaged_record_counts_as_none(tmp_path: Path, damage: str) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(Record("train", "k", 1.0, {}))
    (tmp_path / "train-k.json").write_text(damage)
    assert ledger.find("train", "k") is None


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    Ledger(tmp_path).write(Record("train", "k", 1.0, {}))
    assert [file.name for file in tmp_path.iterdir()] == ["train-k.json"]


def test_a_second_driver_is_told_who_holds_the_project(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from rayline.ledger import Ledger\n"
        f"with Ledger(Path({str(tmp_path)!r})).held('bikes'): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(CheckFailed, match=rf"process {holder.pid}"), Ledger(tmp_path).held("bikes"):
            pass
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    with Ledger(tmp_path).held("bikes"):
        pass


def test_the_latest_of_each_step_is_told_and_damage_left_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.latest() == {}
    for at, key in ((1_000, "new"), (500, "old")):
        ledger.write(Record("train", key, 1.0, {}, at))
    (tmp_path / "tune-k.json").write_text("{")
    assert {step: (each.key, each.at) for step, each in ledger.latest().items()} == {"train": ("new", 1_000)}
