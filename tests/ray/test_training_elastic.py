"""A group that loses a node goes on with fewer workers, and with more when a node joins: one run, one curve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from training_examples import fit_here, made_data, spec_of

TESTS = Path(__file__).parents[1]


def test_two_workers_become_one_and_two_again_in_one_unbroken_curve(tmp_path: Path) -> None:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(TESTS / "elastic_story.py"), str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    epochs = json.loads((tmp_path / "run" / "story.json").read_text())
    assert [each["epoch"] for each in epochs] == list(range(1, 201))
    assert [workers for workers, _ in groupby(each["workers"] for each in epochs)] == [2, 1, 2]
    alone = fit_here(spec_of(epochs=200, patience=0, learning_rate=0.001), made_data(), tmp_path / "alone")
    unbroken = [report.metrics["train_loss"] for report in alone.history]
    assert [each["loss"] for each in epochs] == pytest.approx(unbroken, rel=1e-3)
