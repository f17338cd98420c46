"""The door to Ray Tune: every trial in the ledger, the best with its weights, failures told with their reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rayline.config import ModelConfig, Space
from rayline.errors import ClusterError, ConfigError, TrainingFailed
from rayline.model import InputLayout, build_module
from rayline.training.spec import TrainSpec
from rayline.tuning import ledger
from rayline.tuning.ledger import Trial
from rayline.tuning.study import tune
from training_examples import broken_data, made_data, spec_of, study_config

pytestmark = pytest.mark.usefixtures("ray_cluster")

SPACE = {
    "train.learning_rate": Space(low=1e-3, high=1e-1, log=True),
    "model.hidden": Space(choose=((4,), (8, 4))),
}


def test_a_study_keeps_every_trial_and_gives_the_best(tmp_path: Path) -> None:
    config = study_config(SPACE, spec_of(epochs=6), trials=4, grace_epochs=2)
    told: list[tuple[int, Trial]] = []
    found = tune(config, made_data(), spec_of(epochs=6), tmp_path, lambda trial: told.append((os.getpid(), trial)))
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3]
    assert sorted(ledger.read(tmp_path / "trials.jsonl"), key=lambda trial: trial.number) == list(found.trials)
    assert sorted(trial.number for _, trial in told) == [0, 1, 2, 3]
    assert {process for process, _ in told} == {os.getpid()}
    for trial in found.trials:
        assert trial.params.keys() == SPACE.keys()
        assert 1e-3 <= trial.params["train.learning_rate"] <= 1e-1
        assert trial.params["model.hidden"] in ([4], [8, 4])
        assert [report.epoch for report in trial.history] == list(range(1, len(trial.history) + 1))
        assert (len(trial.history) == 6) == (trial.status == "finished")
        assert trial.metrics["valid_loss"] == min(report.metrics["valid_loss"] for report in trial.history)
    assert found.best.metrics["valid_loss"] == min(trial.metrics["valid_loss"] for trial in found.trials)
    assert found.best.checkpoint is not None
    model = ModelConfig(hidden=tuple(found.best.params["model.hidden"]))
    build_module(model, InputLayout.plain(4), 1).load_state_dict(load_file(found.best.checkpoint / "model.safetensors"))
    state = json.loads((found.best.checkpoint / "state.json").read_text())
    assert state["metrics"] == found.best.metrics


def test_a_study_whose_every_trial_fails_tells_the_first_reason(tmp_path: Path) -> None:
    told: list[Trial] = []
    with pytest.raises(TrainingFailed, match=r"all 2 trials failed; the first with: .*the loss is nan at epoch 1"):
        tune(study_config(SPACE, trials=2), broken_data(), spec_of(), tmp_path, told.append)
    assert [(trial.status, trial.checkpoint) for trial in told] == [("failed", None)] * 2
    assert [trial.status for trial in ledger.read(tmp_path / "trials.jsonl")] == ["failed"] * 2


@pytest.mark.parametrize(
    ("spec", "tune_settings", "words"),
    [
        (spec_of(), {"cpus_per_trial": 64.0}, r"a trial needs 64 CPUs .* of 2\. Lower tune\.cpus_per_trial"),
        (spec_of(num_workers=64), {}, r"a trial needs 64 CPUs .* of 2\. Lower train\.num_workers"),
    ],
)
def test_a_trial_that_does_not_fit_is_refused_before_any_starts(
    tmp_path: Path, spec: TrainSpec, tune_settings: dict[str, float], words: str
) -> None:
    config = study_config(SPACE, spec, **tune_settings)
    with pytest.raises(ClusterError, match=words):
        tune(config, made_data(), spec, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_an_unknown_metric_is_refused_before_any_trial_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'los' is unknown"):
        tune(study_config(SPACE, spec_of(metric="los")), made_data(), spec_of(metric="los"), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_trials_may_have_worker_groups_of_their_own(tmp_path: Path) -> None:
    spec = spec_of(num_workers=2, epochs=2)
    config = study_config({"train.learning_rate": SPACE["train.learning_rate"]}, spec, trials=2)
    found = tune(config, made_data(), spec, tmp_path)
    assert [(trial.number, trial.status, len(trial.history)) for trial in found.trials] == [
        (0, "finished", 2),
        (1, "finished", 2),
    ]
    assert found.best.checkpoint is not None
    build_module(spec.model, InputLayout.plain(4), 1).load_state_dict(
        load_file(found.best.checkpoint / "model.safetensors")
    )
