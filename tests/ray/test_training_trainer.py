"""The door to Ray Train: one worker here, a group of workers in processes of their own, the same numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from rayline.config import ModelConfig
from rayline.errors import ClusterError, TrainingFailed
from rayline.training.checkpoint import folder_of
from rayline.training.spec import EpochReport
from rayline.training.trainer import train
from training_examples import broken_data, fit_here, made_data, spec_of

pytestmark = pytest.mark.usefixtures("ray_cluster")

BUILDER = """
from torch import nn

def build(inputs, outputs, width=3):
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))
"""


def valid_losses(history: tuple[EpochReport, ...]) -> list[float]:
    return [report.metrics["valid_loss"] for report in history]


def test_one_worker_trains_in_this_process(tmp_path: Path) -> None:
    told: list[tuple[int, EpochReport]] = []
    result = train(spec_of(), made_data(), tmp_path / "run", lambda report: told.append((os.getpid(), report)))
    assert told == [(os.getpid(), report) for report in result.history]
    assert result.checkpoint == folder_of(tmp_path / "run", result.best_epoch)
    assert set(load_file(result.checkpoint / "model.safetensors")) == {
        f"layers.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")
    }
    direct = fit_here(spec_of(), made_data(), tmp_path / "direct")
    assert valid_losses(result.history) == pytest.approx(valid_losses(direct.history), abs=1e-6)


def test_a_users_own_builder_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray_layer_user").mkdir()
    (tmp_path / "ray_layer_user" / "__init__.py").touch()
    (tmp_path / "ray_layer_user" / "network.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    model = ModelConfig(builder="ray_layer_user.network:build", options={"width": 5})
    result = train(spec_of(model=model), made_data(), tmp_path / "run")
    assert load_file(result.checkpoint / "model.safetensors")["0.weight"].shape == (5, 4)


def test_a_failure_in_this_process_arrives_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"the loss is nan at epoch 1, step \d+, with learning rate 0\.01"):
        train(spec_of(), broken_data(), tmp_path)


def test_two_workers_give_the_losses_of_one_and_tell_them_here(tmp_path: Path) -> None:
    data = made_data()
    alone = train(spec_of(), data, tmp_path / "alone")
    told: list[tuple[int, EpochReport]] = []
    pair = train(spec_of(num_workers=2), data, tmp_path / "pair", lambda each: told.append((os.getpid(), each)))
    assert valid_losses(pair.history) == pytest.approx(valid_losses(alone.history), abs=1e-5)
    assert told == [(os.getpid(), report) for report in pair.history]
    assert pair.checkpoint == folder_of(tmp_path / "pair", pair.best_epoch)
    assert {name: value.shape for name, value in load_file(pair.checkpoint / "model.safetensors").items()} == {
        name: value.shape for name, value in load_file(alone.checkpoint / "model.safetensors").items()
    }


def test_a_failure_in_a_worker_arrives_as_it_was_raised(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"the loss is nan at epoch 1, step \d+, with learning rate 0\.01"):
        train(spec_of(num_workers=2), broken_data(), tmp_path)


def test_more_workers_than_the_cluster_holds_are_refused_before_any_starts(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"train\.num_workers is 64, .* this cluster has .* free of 2\. Lower"):
        train(spec_of(num_workers=64), made_data(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
