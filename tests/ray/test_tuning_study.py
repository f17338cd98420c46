"""A Study on warm workers: every trial in the ledger, the best with its weights, failures told with their reason."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from safetensors.torch import load_file

from rayline.config import ModelConfig, Space, StopConfig
from rayline.errors import ClusterError, ConfigError, TrainingFailed
from rayline.model import InputLayout, build_module
from rayline.training.spec import EpochReport, TrainData, TrainSpec
from rayline.tuning import ledger
from rayline.tuning.ledger import Trial
from rayline.tuning.study import StudyResult, base_data, tune
from training_examples import broken_data, made_data, spec_of, study_config

pytestmark = pytest.mark.usefixtures("ray_cluster")

RATE = {"train.learning_rate": Space(low=1e-3, high=1e-1, log=True)}
SPACE = {**RATE, "model.hidden": Space(choose=((4,), (8, 4)))}


def study(
    out: Path,
    spec: TrainSpec | None = None,
    space: dict[str, Space] = SPACE,
    data: TrainData | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    *,
    on_epoch: Callable[[int, EpochReport], None] = lambda number, report: None,
    notice: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> StudyResult:
    spec = spec or spec_of()
    config = study_config(space, spec, **settings)
    data_for = base_data(spec, data or made_data())
    return tune(config, data_for, out, on_trial, on_epoch=on_epoch, notice=notice)


def test_a_study_keeps_every_trial_and_gives_the_best(tmp_path: Path) -> None:
    told: list[tuple[int, int, Trial]] = []
    found = study(
        tmp_path,
        spec_of(epochs=6),
        on_trial=lambda trial: told.append((os.getpid(), threading.get_ident(), trial)),
        trials=4,
        grace_epochs=2,
    )
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3]
    assert sorted(ledger.read(tmp_path / "trials.jsonl"), key=lambda trial: trial.number) == list(found.trials)
    assert sorted(trial.number for _, _, trial in told) == [0, 1, 2, 3]
    assert {(process, thread) for process, thread, _ in told} == {(os.getpid(), threading.get_ident())}
    for trial in found.trials:
        assert trial.params.keys() == SPACE.keys()
        assert 1e-3 <= trial.params["train.learning_rate"] <= 1e-1
        assert trial.params["model.hidden"] in ([4], [8, 4])
        assert [report.epoch for report in trial.history] == list(range(1, len(trial.history) + 1))
        assert (len(trial.history) == 6) == (trial.status == "finished")
        assert trial.metrics["valid_loss"] == min(report.metrics["valid_loss"] for report in trial.history)
    assert found.best.metrics["valid_loss"] == min(trial.metrics["valid_loss"] for trial in found.trials)
    assert (found.pareto, found.ended_by) == ((found.best,), "all 4 trials are done")
    assert found.best.checkpoint is not None
    model = ModelConfig(hidden=tuple(found.best.params["model.hidden"]))
    build_module(model, InputLayout.plain(4), 1).load_state_dict(load_file(found.best.checkpoint / "model.safetensors"))
    state = json.loads((found.best.checkpoint / "state.json").read_text())
    assert state["history"][-1]["metrics"] == found.best.metrics


def test_the_same_command_again_trains_nothing_and_tells_everything(tmp_path: Path) -> None:
    first = study(tmp_path, trials=3)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("state.json")}
    told: list[Trial] = []
    again = study(tmp_path, trials=3, on_trial=told.append)
    assert (again.trials, again.best) == (first.trials, first.best)
    assert sorted(told, key=lambda trial: trial.number) == list(first.trials)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("state.json")} == before


def test_a_listener_that_fails_ends_the_study_and_loses_nothing(tmp_path: Path) -> None:
    def fail(trial: Trial) -> None:
        raise OSError("the disk of the listener is full")

    with pytest.raises(OSError, match="the disk of the listener"):
        study(tmp_path, trials=6, on_trial=fail)
    kept = ledger.read(tmp_path / "trials.jsonl")
    assert kept
    told: list[Trial] = []
    found = study(tmp_path, trials=6, on_trial=told.append)
    assert sorted(trial.number for trial in told) == [0, 1, 2, 3, 4, 5]
    assert [trial for trial in found.trials if trial.number in {each.number for each in kept}] == sorted(
        kept, key=lambda trial: trial.number
    )


def test_a_study_whose_every_trial_fails_tells_the_first_reason(tmp_path: Path) -> None:
    told: list[Trial] = []
    with pytest.raises(TrainingFailed, match=r"all 2 trials failed; the first with: .*the loss is nan at epoch 1"):
        study(tmp_path, data=broken_data(), trials=2, on_trial=told.append)
    assert [(trial.status, trial.checkpoint) for trial in told] == [("failed", None)] * 2
    assert [trial.status for trial in ledger.read(tmp_path / "trials.jsonl")] == ["failed"] * 2
    assert "TrainingFailed" in (tmp_path / "trial-000" / "error.txt").read_text()


@pytest.mark.parametrize(
    ("spec", "tune_settings", "words"),
    [
        (spec_of(), {"cpus_per_trial": 64.0}, r"a trial needs 64 CPUs .* of 2\. Lower tune\.cpus_per_trial"),
        (spec_of(num_workers=64), {}, r"a trial needs 64 CPUs .* of 2\. Lower train\.num_workers"),
        (spec_of(), {"gpus_per_trial": 1.0}, r"a trial needs 1 GPUs .* of 0\. Lower tune\.gpus_per_trial"),
    ],
)
def test_a_trial_that_does_not_fit_is_refused_before_any_starts(
    tmp_path: Path, spec: TrainSpec, tune_settings: dict[str, float], words: str
) -> None:
    with pytest.raises(ClusterError, match=words):
        study(tmp_path / "study", spec, **tune_settings)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("spec", "settings", "words"),
    [
        (spec_of(metric="los"), {}, "'los' is unknown"),
        (spec_of(), {"objectives": ("loss", "acuracy")}, "'acuracy' is unknown"),
        (spec_of(), {"sampler": "grid"}, "'grid', and tune.space 'train.learning_rate' is a span"),
        (spec_of(), {"scheduler": "pbt"}, r"cannot search 'model\.hidden'"),
        (spec_of(use_gpu=True), {}, r"tune\.gpus_per_trial is 0"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_trial_starts(
    tmp_path: Path, spec: TrainSpec, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        study(tmp_path / "study", spec, **settings)
    assert not list(tmp_path.glob("study/trial-*"))


def test_trials_may_have_worker_groups_of_their_own(tmp_path: Path) -> None:
    said: list[str] = []
    spec = spec_of(num_workers=2, epochs=2)
    found = study(tmp_path, spec, RATE, trials=2, notice=said.append)
    assert [(trial.number, trial.status, len(trial.history)) for trial in found.trials] == [
        (0, "finished", 2),
        (1, "finished", 2),
    ]
    assert said[0].startswith("tune.scheduler 'asha' is off: a trial that is a group of workers")
    assert found.best.checkpoint is not None
    build_module(spec.model, InputLayout.plain(4), 1).load_state_dict(
        load_file(found.best.checkpoint / "model.safetensors")
    )


def test_several_objectives_give_a_pareto_front(tmp_path: Path) -> None:
    said: list[str] = []
    found = study(tmp_path, trials=6, objectives=("accuracy", "loss"), notice=said.append)
    assert found.best in found.pareto
    best = max(trial.metrics["valid_accuracy"] for trial in found.trials)
    assert found.best.metrics["valid_accuracy"] == best
    for trial in found.pareto:
        assert not any(
            other.metrics["valid_accuracy"] > trial.metrics["valid_accuracy"]
            and other.metrics["valid_loss"] < trial.metrics["valid_loss"]
            for other in found.trials
        )
    assert said == ["tune.scheduler 'asha' is off: a trial cannot be ended early for one of several objectives"]


def test_a_population_trains_to_the_end_and_moves(tmp_path: Path) -> None:
    found = study(tmp_path, spec_of(epochs=6, patience=1), RATE, trials=4, scheduler="pbt", grace_epochs=2)
    assert [(trial.status, len(trial.history)) for trial in found.trials] == [("finished", 6)] * 4
    moved = [trial for trial in found.trials if trial.moves]
    assert moved
    for trial in moved:
        epoch, source = trial.moves[-1]
        if not found.trials[source].moves:
            assert trial.history[:epoch] == found.trials[source].history[:epoch]
    assert found.best.checkpoint is not None


def test_a_target_ends_the_study(tmp_path: Path) -> None:
    found = study(tmp_path, trials=50, sampler="random", stop=StopConfig(target=100.0))
    assert len(found.trials) <= 3
    assert found.ended_by == "a trial reached the target 100"


def test_more_trials_at_once_than_fit_wait_for_no_place_that_never_comes(tmp_path: Path) -> None:
    found = study(tmp_path, trials=5, max_concurrent=5, cpus_per_trial=2.0)
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3, 4]


def test_no_worker_is_left_behind(tmp_path: Path) -> None:
    study(tmp_path, trials=2)
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU") != 2:
        assert time.monotonic() < deadline, f"workers still hold CPUs: {ray.available_resources()}"
        time.sleep(0.1)
