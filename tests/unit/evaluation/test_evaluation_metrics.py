"""The held-out evaluation, against scikit-learn's own metrics and answers that are known by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

from rayline.config import EvaluateConfig, SliceConfig
from rayline.errors import DataError, RowError, SchemaError
from rayline.evaluation.metrics import Matrix, evaluate
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

    assert found.metrics == {
        "accuracy": 1.0,
        "balanced_accuracy": 1.0,
        "f1_macro": 1.0,
        "log_loss": pytest.approx(0.0, abs=1e-9),
        "roc_auc_ovr": 1.0,
    }
    assert (found.rows, found.task, found.classes) == (150, "multiclass", ("setosa", "versicolor", "virginica"))


def test_two_classes_get_what_scikit_learn_gives() -> None:
    table = real_table("binary")
    scores = np.random.default_rng(0).normal(size=table.num_rows)

    found = evaluate(answering(table, lambda truth: (truth + scores)[:, None]), table)

    truth = np.array(table["target"].to_pylist()) == "malignant"
    chance = 1 / (1 + np.exp(-(truth + scores)))
    assert found.metrics == {
        "accuracy": pytest.approx(metrics.accuracy_score(truth, chance > 0.5)),
        "balanced_accuracy": pytest.approx(metrics.balanced_accuracy_score(truth, chance > 0.5)),
        "f1": pytest.approx(metrics.f1_score(truth, chance > 0.5)),
        "precision": pytest.approx(metrics.precision_score(truth, chance > 0.5)),
        "recall": pytest.approx(metrics.recall_score(truth, chance > 0.5)),
        "log_loss": pytest.approx(metrics.log_loss(truth, chance)),
        "brier": pytest.approx(metrics.brier_score_loss(truth, chance)),
        "roc_auc": pytest.approx(metrics.roc_auc_score(truth, chance)),
        "average_precision": pytest.approx(metrics.average_precision_score(truth, chance)),
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

    of_one_class, of_one_row = evaluate(classifier, benign), evaluate(regressor, numbers)

    assert set(of_one_class.metrics) == {"accuracy", "balanced_accuracy", "log_loss", "brier"}
    assert set(of_one_class.intervals) == set(of_one_class.metrics)
    assert set(of_one_row.metrics) == {"rmse", "mae", "median_absolute_error", "mape", "bias"}


def test_slices_calibration_and_threshold_come_with_it() -> None:
    table = real_table("binary")
    scores = np.random.default_rng(0).normal(size=table.num_rows)
    predictor = answering(table, lambda truth: (truth + scores)[:, None])
    features = predictor.features
    valid = Matrix(features.transform(table), features.encode_target(table))
    config = EvaluateConfig(slices=(SliceConfig(column="mean radius", bins=(14.0,)),), bootstrap=100)

    found = evaluate(predictor, table, config, valid)

    radius = table["mean radius"].to_numpy()
    assert [(each.slice.name, len(each.slice)) for each in found.slices[:2]] == [
        ("mean radius < 14", (radius < 14).sum()),
        ("mean radius >= 14", (radius >= 14).sum()),
    ]
    for each in found.slices:
        here = each.scores["accuracy"]
        assert here.value == pytest.approx(np.mean((found.predictions.values == found.truth)[each.slice.rows]))
        assert here.low < here.value < here.high
    assert found.calibration is not None
    assert found.threshold is not None
    assert found.threshold.rule == "f1"
    assert found.intervals["roc_auc"].value == pytest.approx(found.metrics["roc_auc"])


def test_the_worst_slice_is_found_by_a_column_that_is_no_input() -> None:
    table = real_table("regression")
    shift = np.arange(table.num_rows) % 3 == 0
    features = fitted(table)
    noise = np.random.default_rng(0).normal(size=table.num_rows) * (20 + 60 * shift) / features.target_std
    predictor = Predictor(features, lambda matrix: (features.encode_target(table) + noise)[:, None].astype(float))
    marked = table.append_column("shift", pa.array(["late" if each else "early" for each in shift]))

    found = evaluate(predictor, marked)

    assert [each.slice.name for each in found.worst] == ["shift = late"]
    assert found.worst[0].scores["mae"].low > found.intervals["mae"].high


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
