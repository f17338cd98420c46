"""The losses of one training on a real table, as they were when they were last looked at.

Rounding differs between processors and thread counts: 1 and 2 threads were measured 3e-8 apart, relative, so 1e-3
leaves room for other machines. A learning rate one percent higher moves the losses by more than that.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rayline.config import ModelConfig
from rayline.training.spec import TrainResult
from training_examples import breast_cancer, fit_here, spec_of

TRAIN_LOSS = (0.499821, 0.226898, 0.0996215, 0.0825269, 0.0677086)
VALID_LOSS = (0.313851, 0.112836, 0.0537073, 0.0430013, 0.0594704)
TOLERANCE = 1e-3


def trained(out: Path, learning_rate: float = 0.01) -> TrainResult:
    model = ModelConfig(hidden=(16, 8))
    spec = spec_of(inputs=30, epochs=5, seed=11, model=model, learning_rate=learning_rate)
    return fit_here(spec, breast_cancer(), out)


def test_the_losses_on_breast_cancer(tmp_path: Path) -> None:
    result = trained(tmp_path)
    assert [each.metrics["train_loss"] for each in result.history] == pytest.approx(TRAIN_LOSS, rel=TOLERANCE)
    assert [each.metrics["valid_loss"] for each in result.history] == pytest.approx(VALID_LOSS, rel=TOLERANCE)
    assert result.best_epoch == 4
    assert result.metrics["valid_accuracy"] == pytest.approx(142 / 143)
    assert result.metrics["valid_auc"] == pytest.approx(0.99871, abs=1e-4)


def test_the_tolerance_would_tell_another_learning_rate(tmp_path: Path) -> None:
    losses = [each.metrics["valid_loss"] for each in trained(tmp_path, learning_rate=0.0101).history]
    assert losses != pytest.approx(VALID_LOSS, rel=TOLERANCE)
