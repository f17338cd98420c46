"""From the network's output to answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rayline.registry.predictor import BATCH, Predictor, sigmoid, softmax
from registry_examples import fitted, make_bundle, mixed_table, real_table

logits = st.floats(-1e30, 1e30, allow_nan=False)


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 7)), elements=logits))
def test_softmax_is_a_distribution_in_the_order_of_the_logits(matrix: np.ndarray) -> None:
    found = softmax(matrix)

    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
    assert (found >= 0).all()
    top = matrix.argmax(axis=1)
    assert (found[np.arange(len(found)), top] == found.max(axis=1)).all()


@given(arrays.arrays(np.float64, st.integers(1, 20), elements=logits))
def test_sigmoid_is_a_distribution_and_even(values: np.ndarray) -> None:
    found = sigmoid(values)

    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_array_equal(found[:, ::-1], sigmoid(-values))
    moderate = np.abs(values) < 30
    np.testing.assert_allclose(found[moderate, 1], 1 / (1 + np.exp(-values[moderate])), rtol=1e-12)


def answering(task: str, outputs: np.ndarray) -> Predictor:
    """A predictor whose network gives the same outputs whatever it is asked."""
    return Predictor(fitted(real_table(task)), lambda matrix: np.resize(outputs, (len(matrix), outputs.shape[-1])))


def test_a_regression_is_in_the_targets_own_units() -> None:
    predictor = answering("regression", np.array([[1.0]]))
    features = predictor.features

    found = predictor.predict_matrix(np.zeros((2, features.width), np.float32))

    assert found.records() == [{"prediction": pytest.approx(features.target_mean + features.target_std)}] * 2
    assert found.labels is None
    assert found.probabilities is None


def test_two_classes_come_from_one_logit() -> None:
    predictor = answering("binary", np.array([[np.log(3.0)], [-np.log(3.0)]]))

    found = predictor.predict_matrix(np.zeros((2, predictor.features.width), np.float32))

    assert [record["label"] for record in found.records()] == ["malignant", "benign"]
    assert found.records()[0]["probabilities"] == {"benign": pytest.approx(0.25), "malignant": pytest.approx(0.75)}


def test_several_classes_keep_their_order() -> None:
    predictor = answering("multiclass", np.log(np.array([[0.2, 0.7, 0.1]])))

    record = predictor.predict_matrix(np.zeros((1, predictor.features.width), np.float32)).records()[0]

    assert record["label"] == "versicolor"
    assert list(record["probabilities"]) == ["setosa", "versicolor", "virginica"]
    assert list(record["probabilities"].values()) == pytest.approx([0.2, 0.7, 0.1])


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_told_and_does_not_warn(task: str, broken: float) -> None:
    width = 3 if task == "multiclass" else 1
    outputs = np.zeros((2, width))
    outputs[1, 0] = broken
    predictor = answering(task, outputs)

    found = predictor.predict_matrix(np.zeros((2, predictor.features.width), np.float32))

    # An infinite logit of two classes is certainty, not failure.
    certain = task == "binary" and not np.isnan(broken)
    certain = certain or (task == "multiclass" and broken == -np.inf)
    assert found.finite.tolist() == [True, certain]
    assert len(found.records()) == 2


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_no_rows_get_no_answers(task: str, tmp_path: Path) -> None:
    found = make_bundle(tmp_path, real_table(task)).predictor().predict([])

    assert len(found) == 0
    assert found.records() == []
    assert found.finite.shape == (0,)


def test_many_rows_go_through_in_parts_and_come_back_in_order() -> None:
    predictor = Predictor(fitted(mixed_table()), lambda matrix: matrix[:, :1].astype(np.float64))
    matrix = np.zeros((BATCH + 3, predictor.features.width), np.float32)
    matrix[:, 0] = np.arange(len(matrix))

    found = predictor.predict_matrix(matrix)

    features = predictor.features
    np.testing.assert_allclose(found.values, np.arange(len(matrix)) * features.target_std + features.target_mean)
