"""A Study whose worker or driver is killed goes on: no trial is lost, none is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from rayline.config import ModelConfig, Space
from rayline.processes import descendants
from rayline.training.spec import EpochReport
from rayline.tuning.ledger import events, read
from rayline.tuning.study import StudyResult, base_data, tune
from study_driver import EPOCHS
from training_examples import made_data, spec_of, study_config

pytestmark = pytest.mark.usefixtures("ray_cluster")

DRIVER = Path(__file__).parents[1] / "study_driver.py"
DEADLINE_S = 240.0
RATE = {"train.learning_rate": Space(low=1e-3, high=1e-1, log=True)}


def workers() -> list[int]:
    """Return the processes of this session's cluster that train trials."""
    return [pid for pid, command in descendants(os.getpid()).items() if command.startswith("ray::Worker.step")]


def slow_study(
    out: Path, space: dict[str, Space], on_epoch: Callable[[int, EpochReport], None], said: list[str], **more: Any
) -> StudyResult:
    options = {"die": False} if "model.options.die" in space else {}
    spec = spec_of(
        model=ModelConfig(builder="slow_model:build", options=options), epochs=40, patience=0, max_failures=1
    )
    config = study_config(space, spec, trials=2, scheduler="none", **more)
    return tune(config, base_data(spec, made_data()), out, on_epoch=on_epoch, notice=said.append)


def test_a_killed_worker_is_replaced_and_its_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(number: int, report: EpochReport) -> None:
        if not killed:
            killed.append(report.epoch)
            os.kill(workers()[0], signal.SIGKILL)

    said: list[str] = []
    found = slow_study(tmp_path, RATE, kill, said)
    assert killed
    assert [(trial.status, len(trial.history)) for trial in found.trials] == [("finished", 40)] * 2
    assert len(said) == 1
    assert said[0].endswith("its worker process was killed or its node was lost; it goes on from its last checkpoint")
    for trial in found.trials:  # an epoch that was trained again would have a later time than the one after it
        assert [report.epoch for report in trial.history] == list(range(1, 41))
        assert [report.at for report in trial.history] == sorted(report.at for report in trial.history)


def test_a_trial_whose_worker_always_dies_fails_alone(tmp_path: Path) -> None:
    space = {"model.options.die": Space(choose=(True, False))}
    found = slow_study(tmp_path, space, lambda number, report: None, [], sampler="grid")
    by_death = {trial.params["model.options.die"]: trial for trial in found.trials}
    assert (by_death[False].status, by_death[True].status) == ("finished", "failed")
    assert "its worker died 2 times, which is more than train.max_failures (1) allows" in str(by_death[True].error)
    assert found.best == by_death[False]


@pytest.mark.parametrize(("scheduler", "lines"), [("asha", 6), ("pbt", 9)])
def test_a_driver_killed_in_the_middle_finishes_with_the_same_command(
    tmp_path: Path, scheduler: str, lines: int
) -> None:
    file = tmp_path / "study" / "trials.jsonl"
    first = start(tmp_path, scheduler)
    await_or_fail(lambda: len(events(file)) >= lines, first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    before = read(file)
    begun = {each.number: each.values["params"] for each in events(file) if each.kind == "suggested"}
    assert len(before) < 5
    second = start(tmp_path, scheduler)
    output, errors = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 0, errors
    found = json.loads(output.splitlines()[-1])
    numbers = [number for number, *_ in found["trials"]]
    assert numbers == [0, 1, 2, 3, 4]
    ended = [each.number for each in events(file) if each.kind == "ended"]
    assert sorted(ended) == numbers
    assert [trial for trial in read(file) if trial.number in {each.number for each in before}] == list(before)
    if scheduler == "asha":
        assert {number: params for number, _, _, params in found["trials"] if number in begun} == begun
    assert all((epochs == EPOCHS) == (status == "finished") for _, status, epochs, _ in found["trials"])
    heard = [line.split() for line in (tmp_path / "heard").read_text().splitlines()]
    assert sorted(int(number) for pid, number in heard if int(pid) == second.pid) == numbers


def start(out: Path, scheduler: str) -> subprocess.Popen[str]:
    address = ray.get_runtime_context().gcs_address
    return subprocess.Popen(
        [sys.executable, str(DRIVER), address, str(out), scheduler, "5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "token"},
    )


def await_or_fail(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the driver did not come so far"
        time.sleep(0.02)
