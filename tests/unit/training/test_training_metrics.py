"""The metrics of an epoch, against answers by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from rayline.config import Task
from rayline.errors import ConfigError
from rayline.training.metrics import DIRECTIONS, area_under_curve, direction, measure

few_scores = st.integers(-3, 3).map(float)  # few values, so that ties are common
scored = st.lists(st.tuples(few_scores | st.floats(-50, 50), st.booleans()), min_size=2, max_size=60)


@given(scored)
def test_the_area_under_the_curve_is_that_of_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in rows])
    positive = np.array([label for _, label in rows])
    positive[:2] = True, False  # both there
    assert area_under_curve(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


@pytest.mark.parametrize("positive", [[True, True], [False, False]])
def test_one_class_alone_has_no_order_to_find(positive: list[bool]) -> None:
    assert area_under_curve(np.array([0.1, 0.9]), np.array(positive)) == 0.5


def test_binary_by_hand() -> None:
    outputs = np.array([[math.log(3.0)], [-math.log(3.0)], [math.log(3.0)]])  # probabilities 0.75, 0.25, 0.75
    found = measure("binary", outputs, np.array([1, 0, 0]), 1.0)
    assert found["loss"] == pytest.approx(-(2 * math.log(0.75) + math.log(0.25)) / 3)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["auc"] == pytest.approx(0.75)


def test_multiclass_by_hand() -> None:
    outputs = np.log(np.array([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]))
    found = measure("multiclass", outputs, np.array([0, 1]), 1.0)
    assert found == pytest.approx({"loss": -(math.log(0.5) + math.log(0.3)) / 2, "accuracy": 0.5})


def test_regression_speaks_in_the_unit_of_the_target() -> None:
    found = measure("regression", np.array([[1.0], [0.0]]), np.array([0.0, 3.0], np.float32), 10.0)
    assert found == pytest.approx({"loss": 5.0, "mae": 20.0, "rmse": 10.0 * math.sqrt(5.0)})


# None of these is as unlikely as what scikit-learn clips.
@given(st.lists(st.tuples(st.lists(st.floats(-12, 12), min_size=3, max_size=3), st.integers(0, 2)), min_size=1))
def test_the_multiclass_loss_is_that_of_scikit_learn(rows: list[tuple[list[float], int]]) -> None:
    outputs, truth = np.array([row for row, _ in rows]), np.array([label for _, label in rows])
    weights = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares = weights / weights.sum(axis=1, keepdims=True)
    assert measure("multiclass", outputs, truth, 1.0)["loss"] == pytest.approx(
        log_loss(truth, shares, labels=[0, 1, 2]), abs=1e-9
    )


def test_a_large_logit_does_not_overflow() -> None:
    outputs, truth = np.array([[1e4], [-1e4]]), np.array([0, 0])
    assert measure("binary", outputs, truth, 1.0)["loss"] == pytest.approx(5e3)
    assert measure("multiclass", np.array([[1e4, -1e4]]), np.array([1]), 1.0)["loss"] == pytest.approx(2e4)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_metric_of_a_task_is_measured_and_has_a_direction(task: Task) -> None:
    width = 3 if task == "multiclass" else 1
    assert measure(task, np.zeros((4, width)), np.array([0, 1, 0, 1]), 1.0).keys() == DIRECTIONS[task].keys()
    assert direction("loss", task) == "min"


def test_more_accuracy_and_area_are_better() -> None:
    assert (direction("accuracy", "multiclass"), direction("auc", "binary")) == ("max", "max")
    assert (direction("mae", "regression"), direction("rmse", "regression")) == ("min", "min")


def test_a_mistyped_metric_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"train\.metric 'acuracy' is unknown for a binary task.*'accuracy'"):
        direction("acuracy", "binary")


def test_a_metric_of_another_task_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"'auc' is unknown for a regression task.*loss, mae, rmse"):
        direction("auc", "regression")
