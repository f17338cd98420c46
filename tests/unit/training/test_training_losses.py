"""Class weights in the loss: what each row counts, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from rayline.config import TrainConfig
from rayline.errors import ConfigError
from rayline.training.losses import TaskLoss, class_weights
from rayline.training.spec import TrainData
from training_examples import fit_here, made_data, spec_of


@given(counts=st.lists(st.integers(1, 50), min_size=2, max_size=5))
def test_balanced_weights_are_those_of_sklearn(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    names = tuple(map(str, range(len(counts))))
    ours = class_weights(TrainConfig(class_weights="balanced"), names, np.array(counts))
    theirs = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    assert ours.numpy() == pytest.approx(theirs, rel=1e-5)


@given(counts=st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(any), first=st.floats(0.1, 20))
def test_the_average_training_row_weighs_one(counts: list[int], first: float) -> None:
    for wanted in ("balanced", {"a": first, "c": 2.0}):
        weights = class_weights(TrainConfig(class_weights=wanted), ("a", "b", "c"), np.array(counts)).numpy()
        assert float((weights * counts).sum() / sum(counts)) == pytest.approx(1.0, rel=1e-5)
        if isinstance(wanted, dict):
            assert weights / weights[1] == pytest.approx([first, 1.0, 2.0], rel=1e-5)


def test_a_weighted_loss_is_the_mean_of_weighted_rows() -> None:
    outputs, truth = torch.randn(20, 3), torch.arange(20) % 3
    weights = torch.tensor([0.5, 1.0, 2.5])
    rows = functional.cross_entropy(outputs, truth, reduction="none")
    assert float(TaskLoss("multiclass", weights)(outputs, truth)) == pytest.approx(
        float((rows * weights[truth]).mean()), rel=1e-5
    )
    logits, yes = torch.randn(20, 1), (torch.arange(20) % 2).float()
    pair = torch.tensor([0.5, 3.0])
    each = functional.binary_cross_entropy_with_logits(logits[:, 0], yes, reduction="none")
    assert float(TaskLoss("binary", pair)(logits, yes)) == pytest.approx(
        float((each * pair[yes.long()]).mean()), rel=1e-5
    )
    alike = torch.ones(3)
    assert float(TaskLoss("multiclass", alike)(outputs, truth)) == pytest.approx(
        float(TaskLoss("multiclass")(outputs, truth)), rel=1e-5
    )


@pytest.mark.parametrize("wanted", ["balanced", {"yes": 19.0}])
def test_weights_find_more_of_a_rare_class(tmp_path: Path, wanted: Any) -> None:
    data = made_data(rows=600)
    rare = data.train[0][:, 0] < 1.2  # a label that few rows have, and that noise hides
    labels = np.where(rare, 0, data.train[1])
    some = TrainData((data.train[0], labels), data.valid)
    found = {}
    for name, weights in (("alike", None), ("weighted", wanted)):
        result = fit_here(spec_of(class_weights=weights, epochs=6, patience=0), some, tmp_path / name)
        found[name] = result.metrics["valid_accuracy"]  # half of the validation part is of the class
    assert found["weighted"] > found["alike"] + 0.05


def test_an_unknown_label_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.class_weights names 'yess', which is no class.*Did you mean 'yes'"):
        fit_here(spec_of(class_weights={"yess": 2.0}), made_data(), tmp_path)


def test_a_regression_has_no_classes_to_weigh(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this target is a number"):
        fit_here(spec_of("regression", class_weights="balanced"), made_data("regression"), tmp_path)
