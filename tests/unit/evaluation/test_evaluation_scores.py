"""The scores: scikit-learn's values, and the same from sums over weighted rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from evaluation_examples import TASKS, answered, of_chances, of_numbers, taken
from rayline.config import Task
from rayline.errors import ConfigError
from rayline.evaluation.scores import better, printed, row_losses, score, scores_of, shortfall
from rayline.evaluation.weighted import weighted

SEEDS = st.integers(0, 10_000)


def agrees(found: float, wanted: float) -> bool:
    return (math.isnan(found) and math.isnan(wanted)) or found == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@settings(max_examples=40)
@given(st.sampled_from(TASKS), st.integers(1, 60), SEEDS, st.booleans())
def test_weighted_rows_score_as_scikit_learn_scores_the_rows_so_repeated(
    task: Task, rows: int, seed: int, ties: bool
) -> None:
    truth, predictions = answered(task, rows, seed, ties=ties)
    counts = np.random.default_rng(seed).integers(0, 4, (3, rows)).astype(np.int32)
    counts[:, 0] += 1

    found = weighted(scores_of(task), task, truth, predictions).of(counts)

    for name in scores_of(task):
        for sample, times in enumerate(counts):
            drawn = np.repeat(np.arange(rows), times)
            wanted = score(name, task, truth[drawn], taken(predictions, drawn))
            if name == "mape" and not truth.all():
                wanted = math.nan  # undefined for all rows: then for any resample of them
            assert agrees(float(found[name][sample]), wanted), name


@settings(max_examples=40)
@given(st.sampled_from(TASKS), st.integers(20, 60), SEEDS)
def test_groups_of_rows_score_as_their_rows(task: Task, rows: int, seed: int) -> None:
    truth, predictions = answered(task, rows, seed)
    groups = np.random.default_rng(seed).permutation(rows) % 7
    counts = np.random.default_rng(seed).integers(0, 3, (4, 7)).astype(np.int32)
    counts[:, 0] += 1

    of_groups = weighted(scores_of(task), task, truth, predictions, groups=groups).of(counts)
    of_rows = weighted(scores_of(task), task, truth, predictions).of(counts[:, groups])

    for name in scores_of(task):
        np.testing.assert_allclose(of_groups[name], of_rows[name], rtol=1e-9, atol=1e-12)


@settings(max_examples=40)
@given(st.sampled_from(TASKS), SEEDS)
def test_some_rows_score_as_a_table_of_them_alone(task: Task, seed: int) -> None:
    truth, predictions = answered(task, 50, seed)
    rows = np.sort(np.random.default_rng(seed).choice(50, 17, replace=False))

    for name in scores_of(task):
        alone = score(name, task, truth[rows], taken(predictions, rows))
        assert agrees(score(name, task, truth, predictions, rows), alone)
        [found] = weighted([name], task, truth, predictions, rows).of(np.ones((1, 17), dtype=np.int32))[name]
        assert agrees(float(found), alone)


def test_two_classes_get_what_scikit_learn_gives_by_name() -> None:
    truth, predictions = answered("binary", 400, 3)
    chance = predictions.probabilities[:, 1].astype(float)
    wanted = {
        "accuracy": metrics.accuracy_score(truth, predictions.values),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, predictions.values),
        "f1": metrics.f1_score(truth, predictions.values),
        "precision": metrics.precision_score(truth, predictions.values),
        "recall": metrics.recall_score(truth, predictions.values),
        "log_loss": metrics.log_loss(truth, chance),
        "brier": metrics.brier_score_loss(truth, chance),
        "roc_auc": metrics.roc_auc_score(truth, chance),
        "average_precision": metrics.average_precision_score(truth, chance),
    }

    found = {name: score(name, "binary", truth, predictions) for name in scores_of("binary")}

    assert found == pytest.approx(wanted, rel=1e-6)


def test_many_classes_get_what_scikit_learn_gives_by_name() -> None:
    truth, predictions = answered("multiclass", 400, 3)
    chances = predictions.probabilities.astype(float)
    chances /= chances.sum(axis=1, keepdims=True)

    found = {name: score(name, "multiclass", truth, predictions) for name in scores_of("multiclass")}

    assert found == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(truth, predictions.values),
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, predictions.values),
            "f1_macro": metrics.f1_score(truth, predictions.values, average="macro"),
            "top_3_accuracy": metrics.top_k_accuracy_score(truth, chances, k=3),
            "log_loss": metrics.log_loss(truth, chances),
            "roc_auc_ovr": metrics.roc_auc_score(truth, chances, multi_class="ovr"),
        }
    )


def test_numbers_get_what_scikit_learn_gives_and_their_mean_error() -> None:
    truth, predictions = answered("regression", 400, 3)
    values = predictions.values

    found = {name: score(name, "regression", truth, predictions) for name in scores_of("regression")}

    assert found == pytest.approx(
        {
            "rmse": metrics.root_mean_squared_error(truth, values),
            "mae": metrics.mean_absolute_error(truth, values),
            "median_absolute_error": metrics.median_absolute_error(truth, values),
            "mape": metrics.mean_absolute_percentage_error(truth, values),
            "r2": metrics.r2_score(truth, values),
            "bias": float(np.mean(values - truth)),
        }
    )


@pytest.mark.parametrize(
    ("truth", "undefined"),
    [
        ([0, 0, 0], {"recall", "roc_auc", "average_precision"}),
        ([1, 1, 1], {"roc_auc"}),
    ],
)
def test_rows_of_one_class_leave_scores_undefined(truth: list[int], undefined: set[str]) -> None:
    chances = of_chances(np.array([[0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]))

    found = {name: score(name, "binary", np.array(truth), chances) for name in scores_of("binary")}

    assert {name for name, value in found.items() if math.isnan(value)} == undefined


def test_no_rows_equal_truths_and_a_zero_leave_scores_undefined() -> None:
    numbers = of_numbers(np.array([1.0, 2.0]))

    assert math.isnan(score("mae", "regression", np.array([1.0, 2.0]), numbers, np.array([], dtype=np.int64)))
    assert math.isnan(score("r2", "regression", np.array([3.0, 3.0]), numbers))
    assert math.isnan(score("mape", "regression", np.array([0.0, 3.0]), numbers))


def test_a_score_of_another_task_is_refused_with_the_nearest() -> None:
    truth, predictions = answered("binary", 10)

    with pytest.raises(ConfigError, match=r"'roc_auk' is unknown for a binary task\. Did you mean 'roc_auc'"):
        score("roc_auk", "binary", truth, predictions)
    with pytest.raises(ConfigError, match="'rmse' is unknown for a multiclass task"):
        weighted(["rmse"], "multiclass", truth, predictions)


def test_which_way_is_better() -> None:
    assert (better("rmse"), better("roc_auc"), better("bias")) == ("min", "max", "zero")
    assert shortfall("accuracy", 0.9) < shortfall("accuracy", 0.8)
    assert shortfall("bias", -0.1) < shortfall("bias", 2.0)
    assert (printed("accuracy", 0.91234), printed("rmse", 12345.6), printed("r2", math.nan)) == (
        "0.912",
        "1.235e+04",
        "undefined",
    )


def test_the_loss_of_a_row_is_its_log_loss_or_its_absolute_error() -> None:
    truth, predictions = answered("multiclass", 50)
    numbers, guessed = answered("regression", 50)

    assert row_losses("multiclass", truth, predictions).mean() == pytest.approx(
        score("log_loss", "multiclass", truth, predictions)
    )
    assert row_losses("regression", numbers, guessed).mean() == pytest.approx(
        score("mae", "regression", numbers, guessed)
    )
