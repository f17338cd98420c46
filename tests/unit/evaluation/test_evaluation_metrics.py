"""The held-out evaluation, against scikit-learn's own metrics and answers that are known by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

from rayline.errors import DataError, RowError, SchemaError
from rayline.evaluation.metrics import evaluate
from rayline.registry.predictor import Predictor
from registry_examples import fitted, real_table


def answering(table: pa.Table, outputs: Callable[[np.ndarray], np.ndarray]) -> Predictor:
    """A predictor that gives ``outputs`` of the encoded truth, row by row."""
    features = fitted(table)
    return Predictor(features, lambda matrix: outputs(features.encode_target(table)).astype(np.float64))


def test_a_perfect_classifier() -> None:
    table = real_table("multiclass")
    predictor = answering(table, lambda truth: np.eye(3)[truth] * 50)

    found = evaluate(predictor, table)

    assert found.metrics == {"accuracy": 1.0, "f1_macro": 1.0, "log_loss": pytest.approx(0.0, abs=1e-9)}
    assert (found.rows, found.task, found.classes) == (150, "multiclass", ("setosa", "versicolor", "virginica"))


def test_two_classes_get_what_scikit_learn_gives() -> None:
    table = real_table("binary")
    scores = np.random.default_rng(0).normal(size=table.num_rows)

    found = evaluate(answering(table, lambda truth: (truth + scores)[:, None]), table)

    truth = np.array(table["target"].to_pylist()) == "malignant"
    chance = 1 / (1 + np.exp(-(truth + scores)))
    assert found.metrics == {
        "accuracy": pytest.approx(metrics.accuracy_score(truth, chance > 0.5)),
        "f1_macro": pytest.approx(metrics.f1_score(truth, chance > 0.5, average="macro")),
        "log_loss": pytest.approx(metrics.log_loss(truth, chance)),
        "roc_auc": pytest.approx(metrics.roc_auc_score(truth, chance)),
    }


def test_a_regression_is_measured_in_its_own_units() -> None:
    table = real_table("regression")
    features = fitted(table)
    predictor = answering(table, lambda truth: (truth + 3 / features.target_std)[:, None])

    found = evaluate(predictor, table)

    assert found.metrics["mae"] == pytest.approx(3, rel=1e-5)
    assert found.metrics["rmse"] == pytest.approx(3, rel=1e-5)
    assert found.metrics["r2"] == pytest.approx(1 - 9 / features.target_std**2, rel=1e-5)
    assert found.truth.tolist() == table["target"].to_pylist()


def test_rows_of_one_class_or_one_value_leave_some_metrics_out() -> None:
    binary, numbers = real_table("binary"), real_table("regression").slice(0, 1)
    benign = binary.filter(pa.compute.equal(binary["target"], "benign"))
    classifier = Predictor(fitted(binary), lambda matrix: np.zeros((len(matrix), 1)))
    regressor = Predictor(fitted(real_table("regression")), lambda matrix: np.zeros((len(matrix), 1)))

    assert set(evaluate(classifier, benign).metrics) == {"accuracy", "f1_macro", "log_loss"}
    assert set(evaluate(regressor, numbers).metrics) == {"rmse", "mae"}


def test_rows_that_cannot_be_measured_are_told() -> None:
    table = real_table("binary")
    predictor = Predictor(fitted(table), lambda matrix: np.zeros((len(matrix), 1)))
    unknown = table.slice(0, 3).set_column(table.num_columns - 1, "target", pa.array(["benign", "else", "benign"]))

    with pytest.raises(DataError, match="no rows"):
        evaluate(predictor, table.slice(0, 0))
    with pytest.raises(SchemaError, match="no target column 'target'"):
        evaluate(predictor, table.drop_columns(["target"]))
    with pytest.raises(RowError, match="'else'"):
        evaluate(predictor, unknown)


def test_an_answer_that_is_not_finite_is_no_measurement() -> None:
    table = real_table("regression")

    with pytest.raises(DataError, match="not a finite number for 442 of 442"):
        evaluate(answering(table, lambda truth: np.full((len(truth), 1), np.nan)), table)
