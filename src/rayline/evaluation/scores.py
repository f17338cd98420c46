"""The scores of each task: what they are called, which way is better, and scikit-learn's value of each on any rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rayline.config import Task
from rayline.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions

Direction = Literal["min", "max", "zero"]
Unit = Literal["share", "number", "target"]
Rows = NDArray[np.int64]
LIKELY = float(np.finfo(np.float64).eps)
"""A probability counts as at least this in a log loss, so that one answer that is surely wrong is not infinitely so."""


@dataclass(frozen=True, slots=True)
class Score:
    """One score.

    Attributes:
        better: less, more, or nearer to zero.
        unit: ``share`` of 1, a plain ``number``, or the ``target``'s own unit.
        tasks: those that have it.
    """

    better: Direction
    unit: Unit
    tasks: tuple[Task, ...]


_BOTH: tuple[Task, ...] = ("binary", "multiclass")
SCORES: dict[str, Score] = {
    "accuracy": Score("max", "share", _BOTH),
    "balanced_accuracy": Score("max", "share", _BOTH),
    "f1": Score("max", "share", ("binary",)),
    "f1_macro": Score("max", "share", ("multiclass",)),
    "precision": Score("max", "share", ("binary",)),
    "recall": Score("max", "share", ("binary",)),
    "top_3_accuracy": Score("max", "share", ("multiclass",)),
    "log_loss": Score("min", "number", _BOTH),
    "brier": Score("min", "number", ("binary",)),
    "roc_auc": Score("max", "share", ("binary",)),
    "average_precision": Score("max", "share", ("binary",)),
    "roc_auc_ovr": Score("max", "share", ("multiclass",)),
    "rmse": Score("min", "target", ("regression",)),
    "mae": Score("min", "target", ("regression",)),
    "median_absolute_error": Score("min", "target", ("regression",)),
    "mape": Score("min", "share", ("regression",)),
    "r2": Score("max", "number", ("regression",)),
    "bias": Score("zero", "target", ("regression",)),
}
"""By name, in the order in which they are printed. ``bias`` is the mean of prediction minus truth."""

MAIN: dict[Task, str] = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}
"""The one that stands for a model where there is room for one only."""


def scores_of(task: Task) -> tuple[str, ...]:
    """Return the names of a task's scores, in the order in which they are printed."""
    return tuple(name for name, score in SCORES.items() if task in score.tasks)


def check(name: str, task: Task) -> None:
    """Raise ``ConfigError`` for a score that the task does not have."""
    if name not in scores_of(task):
        raise ConfigError(f"score '{name}' is unknown for a {task} task. {suggestion(name, scores_of(task))}")


def better(name: str) -> Direction:
    """Return whether less of a score is better (``min``), more (``max``), or what is nearer to ``zero`` (bias)."""
    return SCORES[name].better


def shortfall(name: str, value: float) -> float:
    """Return a score as a number of which less is always better: a score of which more is better changes its sign."""
    return {"min": value, "max": -value, "zero": abs(value)}[better(name)]


def unit(name: str) -> Unit:
    """Return what a score is counted in: a ``share`` of 1, a plain ``number``, or the ``target``'s own unit."""
    return SCORES[name].unit


def printed(name: str, value: float) -> str:
    """Return a score for people: shares with three decimals, all else with four digits that count."""
    if not math.isfinite(value):
        return "undefined"
    return f"{value:.3f}" if unit(name) == "share" else f"{value:,.4g}"


def score(name: str, task: Task, truth: NDArray[Any], predictions: Predictions, rows: Rows | None = None) -> float:
    """Return one score by scikit-learn, NaN where these rows leave it undefined (the AUC of one class only).

    Args:
        name: one of ``scores_of(task)``.
        task: what was answered.
        truth: int64 (n,) class indices, or float64 (n,) in the target's own unit.
        predictions: the n answers. The positive class of a binary task is the second one.
        rows: int64 indices of the rows that count; None means all.

    Raises:
        ConfigError: the task has no such score.
    """
    check(name, task)
    if rows is not None:
        truth = truth[rows]
    if not len(truth):
        return math.nan
    if task == "regression":
        return _regression(name, truth, predictions.values if rows is None else predictions.values[rows])
    values, probabilities = predictions.values, predictions.probabilities
    assert probabilities is not None
    if rows is not None:
        values, probabilities = values[rows], probabilities[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is undefined: it is NaN here
        return float(_CLASSIFICATION[name](truth, values, summing_to_one(probabilities)))


def summing_to_one(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Return probabilities (n, classes) in double precision; in single precision they sum to 1 to seven digits only."""
    doubled = np.asarray(probabilities, dtype=np.float64)
    total = doubled.sum(axis=1, keepdims=True)
    return np.asarray(doubled / total, dtype=np.float64)


def row_losses(task: Task, truth: NDArray[Any], predictions: Predictions) -> NDArray[np.float64]:
    """Return how wrong each answer is, float64 (n,): its log loss, or a regression's absolute error."""
    if task == "regression":
        return np.asarray(np.abs(predictions.values - truth), dtype=np.float64)
    assert predictions.probabilities is not None
    chances = summing_to_one(predictions.probabilities)
    right = np.take_along_axis(chances, truth[:, np.newaxis], axis=1)[:, 0]
    return np.asarray(-np.log(np.clip(right, LIKELY, 1 - LIKELY)))


def _regression(name: str, truth: NDArray[Any], values: NDArray[Any]) -> float:
    from sklearn import metrics

    if name == "bias":
        return float(np.mean(values - truth))
    if (name == "r2" and np.ptp(truth) == 0) or (name == "mape" and not truth.all()):
        return math.nan
    measures: dict[str, Callable[..., float]] = {
        "rmse": metrics.root_mean_squared_error,
        "mae": metrics.mean_absolute_error,
        "median_absolute_error": metrics.median_absolute_error,
        "mape": metrics.mean_absolute_percentage_error,
        "r2": metrics.r2_score,
    }
    return float(measures[name](truth, values))


Classes = NDArray[np.int64]
Chances = NDArray[np.float64]


def _accuracy(truth: Classes, values: Classes, chances: Chances) -> float:
    from sklearn import metrics

    return float(metrics.accuracy_score(truth, values))


def _balanced_accuracy(truth: Classes, values: Classes, chances: Chances) -> float:
    from sklearn import metrics

    return float(metrics.balanced_accuracy_score(truth, values))


def _f1(truth: Classes, values: Classes, chances: Chances) -> float:
    from sklearn import metrics

    return float(metrics.f1_score(truth, values, zero_division=np.nan))


def _f1_macro(truth: Classes, values: Classes, chances: Chances) -> float:
    from sklearn import metrics

    return float(metrics.f1_score(truth, values, average="macro", zero_division=0.0))


def _precision(truth: Classes, values: Classes, chances: Chances) -> float:
    from sklearn import metrics

    return float(metrics.precision_score(truth, values, zero_division=np.nan))


def _recall(truth: Classes, values: Classes, chances: Chances) -> float:
    from sklearn import metrics

    return float(metrics.recall_score(truth, values, zero_division=np.nan))


def _top_3_accuracy(truth: Classes, values: Classes, chances: Chances) -> float:
    from sklearn import metrics

    classes = chances.shape[1]
    return float(metrics.top_k_accuracy_score(truth, chances, k=3, labels=range(classes))) if classes > 3 else math.nan


def _log_loss(truth: Classes, values: Classes, chances: Chances) -> float:
    from sklearn import metrics

    return float(metrics.log_loss(truth, chances, labels=list(range(chances.shape[1]))))


def _brier(truth: Classes, values: Classes, chances: Chances) -> float:
    from sklearn import metrics

    return float(metrics.brier_score_loss(truth, chances[:, 1], labels=[0, 1]))


def _roc_auc(truth: Classes, values: Classes, chances: Chances) -> float:
    from sklearn import metrics

    return float(metrics.roc_auc_score(truth, chances[:, 1])) if 0 < truth.sum() < len(truth) else math.nan


def _average_precision(truth: Classes, values: Classes, chances: Chances) -> float:
    from sklearn import metrics

    return float(metrics.average_precision_score(truth, chances[:, 1])) if truth.any() else math.nan


def _roc_auc_ovr(truth: Classes, values: Classes, chances: Chances) -> float:
    """Return the mean over the classes that these rows have, and have not only, of each against the rest."""
    from sklearn import metrics

    mixed = [each for each in range(chances.shape[1]) if 0 < np.count_nonzero(truth == each) < len(truth)]
    areas = [metrics.roc_auc_score(truth == each, chances[:, each]) for each in mixed]
    return float(np.mean(areas)) if areas else math.nan


_CLASSIFICATION: dict[str, Callable[[Classes, Classes, Chances], float]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "f1_macro": _f1_macro,
    "precision": _precision,
    "recall": _recall,
    "top_3_accuracy": _top_3_accuracy,
    "log_loss": _log_loss,
    "brier": _brier,
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "roc_auc_ovr": _roc_auc_ovr,
}
