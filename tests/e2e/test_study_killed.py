"""A Study over features and model whose driver is killed: the same command finishes it, with each trial once."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayline import cluster, config
from rayline.config import Config
from rayline.features.prepared import Prepared
from rayline.project import Project
from rayline.registry.bundle import Bundle
from rayline.tuning import ledger

RAYLINE = str(Path(sys.executable).parent / "rayline")
DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")
TRIALS = 8
PROJECT = f"""
name: bike
data: {{source: "{DATA / "bike_hour.csv"}"}}
features:
  target: cnt
  columns: {{hr: numeric, season: categorical, temp: numeric, workingday: boolean}}
train: {{epochs: 2, batch_size: 256, use_gpu: false}}
tune:
  trials: {TRIALS}
  scheduler: none
  space:
    features.columns.hr.kind: {{choose: [numeric, categorical]}}
    features.columns.temp.use: {{choose: [true, false]}}
    train.learning_rate: {{low: 0.001, high: 0.1, log: true}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Config]:
    """Give a project, whose cluster is stopped in the end."""
    file = tmp_path / "rayline.yaml"
    file.write_text(PROJECT)
    settings = config.load(file)
    yield settings
    cluster.stop(settings.storage)


def command(step: str, folder: Path) -> subprocess.Popen[str]:
    with (folder / "output.txt").open("a") as output:
        return subprocess.Popen(
            [RAYLINE, step, str(folder / "rayline.yaml")],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )


def ended(folder: Path) -> int:
    files = list(folder.glob(".rayline/studies/*/trials.jsonl"))
    return len(ledger.read(files[0])) if files else 0


@needs_data
def test_a_killed_study_is_finished_by_the_same_command(project: Config, tmp_path: Path) -> None:
    driver, deadline = command("tune", tmp_path), time.monotonic() + 500
    while ended(tmp_path) < 3:
        assert driver.poll() is None, (tmp_path / "output.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait(timeout=30)
    before = ended(tmp_path)
    assert before < TRIALS

    assert command("register", tmp_path).wait(timeout=600) == 0, (tmp_path / "output.txt").read_text()

    opened = Project(project)
    tuned, scored = opened.find("tune"), opened.find("evaluate")
    assert tuned is not None
    assert scored is not None
    assert (tuned.result["trials"], ended(tmp_path)) == (TRIALS, TRIALS)
    parents = opened.store.find_runs("bike", {"rayline.kind": "study"})
    assert parents == (tuned.result["study_run_id"],)
    children = [opened.store.run(each) for each in opened.store.children(parents[0])]
    assert sorted(int(each.tags["rayline.trial"]) for each in children) == list(range(1, TRIALS + 1))
    assert {each.status for each in children} == {"FINISHED"}
    searched = [json.loads(each.tags["rayline.params"]) for each in children]
    variants = {(each["features.columns.hr.kind"], each["features.columns.temp.use"]) for each in searched}
    assert len({each.tags["rayline.features"] for each in children}) == len(variants)
    assert "study/study.html" in opened.store.run(parents[0]).files
    bundle = Bundle.load(Path(scored.result["bundle"]))
    assert bundle.features.fingerprint == Prepared.load(tuned.result["path"]).features.fingerprint
    with (Path(tuned.result["page"]).parent / "trials.csv").open(newline="") as table:
        assert [row["trial"] for row in csv.DictReader(table)] == [str(each) for each in range(1, TRIALS + 1)]
    output = (tmp_path / "output.txt").read_text()
    assert f"tune resumes after trial {before} of {TRIALS}" in output
    assert str(tuned.result["page"]) in output.replace("\n", "")
