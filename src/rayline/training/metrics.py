"""What is measured after each epoch, by task, in NumPy."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rayline.config import Task
from rayline.errors import ConfigError, suggestion

Direction = Literal["min", "max"]
Doubles = NDArray[np.float64]

DIRECTIONS: dict[Task, dict[str, Direction]] = {
    "binary": {"loss": "min", "accuracy": "max", "auc": "max"},
    "multiclass": {"loss": "min", "accuracy": "max"},
    "regression": {"loss": "min", "mae": "min", "rmse": "min"},
}


def direction(metric: str, task: Task) -> Direction:
    """Return whether less or more of a metric is better. Raises ``ConfigError`` for one that the task does not have."""
    known = DIRECTIONS[task]
    if metric not in known:
        raise ConfigError(f"train.metric '{metric}' is unknown for a {task} task. {suggestion(metric, known)}")
    return known[metric]


def measure(task: Task, outputs: Doubles, truth: NDArray[Any], target_std: float) -> dict[str, float]:
    """Return the metrics of a part.

    Args:
        task: what the network answers.
        outputs: what it gave: float64 (n, outputs), logits or standardised values.
        truth: int64 class indices, or float32 standardised values, (n,).
        target_std: one standard deviation of the target, in its own unit.
    """
    if task == "regression":
        error = outputs[:, 0] - truth.astype(np.float64)
        return {
            "loss": float(np.mean(error**2)),
            "mae": float(np.mean(np.abs(error)) * target_std),
            "rmse": float(np.sqrt(np.mean(error**2)) * target_std),
        }
    if task == "binary":
        logits = outputs[:, 0]
        signed = np.where(truth == 1, logits, -logits)
        return {
            "loss": float(np.mean(np.logaddexp(0.0, -signed))),
            "accuracy": float(np.mean((logits > 0) == (truth == 1))),
            "auc": area_under_curve(logits, truth == 1),
        }
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    right = np.take_along_axis(shifted, truth[:, None], axis=1)[:, 0]
    return {
        "loss": float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - right)),
        "accuracy": float(np.mean(outputs.argmax(axis=1) == truth)),
    }


def area_under_curve(scores: Doubles, positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve by the rank-sum formula (Mann and Whitney 1947); 0.5 with one class only."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return 0.5
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))
