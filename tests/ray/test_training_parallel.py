"""Copies of the weights or parts of them: the same training, the same checkpoint, for any number of workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from rayline.config import ModelConfig
from rayline.training.spec import TrainResult
from rayline.training.trainer import train
from training_examples import made_data, spec_of

pytestmark = pytest.mark.usefixtures("ray_cluster")

MODEL = ModelConfig(hidden=(1024, 1024))
"""One of its layers has a million weights: it is gathered by itself."""


def losses(result: TrainResult) -> list[float]:
    return [report.metrics["valid_loss"] for report in result.history]


def test_divided_weights_give_the_losses_and_the_checkpoint_of_copies(tmp_path: Path) -> None:
    data = made_data()
    settings = {"model": MODEL, "epochs": 3, "patience": 0, "learning_rate": 1e-3}
    copies = train(spec_of(num_workers=2, **settings), data, tmp_path / "copies")
    parts = train(spec_of(num_workers=2, parallel="fsdp", **settings), data, tmp_path / "parts")
    assert losses(parts) == pytest.approx(losses(copies), rel=1e-4)
    ours, theirs = (load_file(each.checkpoint / "model.safetensors") for each in (parts, copies))
    assert {name: value.shape for name, value in ours.items()} == {name: each.shape for name, each in theirs.items()}
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def test_divided_weights_go_on_with_another_number_of_workers(tmp_path: Path) -> None:
    data, settings = made_data(), {"model": MODEL, "patience": 0, "learning_rate": 1e-3, "parallel": "fsdp"}
    whole = train(spec_of(num_workers=(1, 2), epochs=4, **settings), data, tmp_path / "whole")
    train(spec_of(num_workers=2, epochs=2, **settings), data, tmp_path / "halves")
    gone_on = train(spec_of(num_workers=[1, 1], epochs=4, **settings), data, tmp_path / "halves")
    assert losses(gone_on) == pytest.approx(losses(whole), rel=1e-4)
