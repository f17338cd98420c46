"""The held-out evaluation: what a bundle answers, against the truth, by scikit-learn's metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import Task
from rayline.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.registry.predictor import Predictions, Predictor


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Answers and truth for n rows.

    Attributes:
        task: what was answered.
        classes: in the order of their indices; none for a regression.
        metrics: by name; one that these rows leave undefined (the AUC of one class only) is absent.
        rows: n.
        predictions: what the bundle answered.
        truth: int64 (n,) class indices, or float64 (n,) in the target's own units.
    """

    task: Task
    classes: tuple[str, ...]
    metrics: dict[str, float]
    rows: int
    predictions: Predictions
    truth: NDArray[Any]


def evaluate(predictor: Predictor, table: pa.Table) -> Evaluation:
    """Measure a bundle as it will be served.

    Args:
        predictor: of the bundle.
        table: raw rows with the input columns and the target.

    Returns:
        For a classification ``accuracy``, ``f1_macro``, ``log_loss`` and, with two classes, ``roc_auc``; for a
        regression ``rmse``, ``mae`` (in the target's own units) and ``r2``.

    Raises:
        DataError: the table has no rows, or the bundle's answer to some row is not finite.
        SchemaError: the table lacks an input column or the target.
        RowError: a value has the wrong type, or a target is missing or no known class.
    """
    if table.num_rows == 0:
        raise DataError("the test part has no rows. Raise data.split.test, or give more data.")
    features = predictor.features
    truth = features.encode_target(table)
    if features.task == "regression":
        truth = _own_units(table, features.schema.target)
    predictions = predictor.predict_table(table)
    unusable = int(np.count_nonzero(~predictions.finite))
    if unusable:
        raise DataError(
            f"the model's answer is not a finite number for {unusable} of {table.num_rows} test rows."
            " Train again with a lower train.learning_rate."
        )
    measure = _regression if features.task == "regression" else _classification
    metrics = measure(truth, predictions)
    return Evaluation(features.task, features.classes, metrics, table.num_rows, predictions, truth)


def _own_units(table: pa.Table, target: str) -> NDArray[np.float64]:
    import pyarrow as pa

    return np.asarray(table.column(target).cast(pa.float64()).to_numpy(), dtype=np.float64)


def _regression(truth: NDArray[Any], predictions: Predictions) -> dict[str, float]:
    from sklearn import metrics

    found = {
        "rmse": float(metrics.root_mean_squared_error(truth, predictions.values)),
        "mae": float(metrics.mean_absolute_error(truth, predictions.values)),
    }
    if np.ptp(truth) > 0:
        found["r2"] = float(metrics.r2_score(truth, predictions.values))
    return found


def _classification(truth: NDArray[Any], predictions: Predictions) -> dict[str, float]:
    from sklearn import metrics

    assert predictions.probabilities is not None
    probabilities = predictions.probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # in single precision they sum to 1 to seven digits only
    indices = list(range(probabilities.shape[1]))
    found = {
        "accuracy": float(metrics.accuracy_score(truth, predictions.values)),
        "f1_macro": float(metrics.f1_score(truth, predictions.values, average="macro", zero_division=0.0)),
        "log_loss": float(metrics.log_loss(truth, probabilities, labels=indices)),
    }
    if len(indices) == 2 and len(np.unique(truth)) == 2:
        found["roc_auc"] = float(metrics.roc_auc_score(truth, probabilities[:, 1]))
    return found
