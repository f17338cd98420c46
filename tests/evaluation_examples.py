"""Answers and truth for tests of the evaluation: seeded, of each task, with or without ties."""

from __future__ import annotations

from typing import Any

import numpy as np

from rayline.config import Task
from rayline.registry.predictor import Predictions

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")


def answered(task: Task, rows: int, seed: int = 0, *, skill: float = 1.0, ties: bool = False) -> Any:
    """Truth and predictions of a model that knows something; five classes of a multiclass task.

    With ``ties`` chances and numbers are rounded, so that many are equal.
    """
    random = np.random.default_rng(seed)
    if task == "regression":
        truth = random.normal(10, 4, rows)
        values = truth + random.normal(0, 2 / skill, rows)
        return (np.round(truth), Predictions(np.round(values), None, None)) if ties else (truth, of_numbers(values))
    classes = 2 if task == "binary" else 5
    truth = random.integers(0, classes, rows)
    logits = random.normal(size=(rows, classes)) / skill
    logits[np.arange(rows), truth] += 1
    chances = np.exp(np.round(logits) if ties else logits)
    return truth, of_chances(chances / chances.sum(axis=1, keepdims=True))


def of_numbers(values: np.ndarray) -> Predictions:
    """The answers of a regression."""
    return Predictions(values, None, None)


def of_chances(chances: np.ndarray) -> Predictions:
    """The answers of a classification: float (n, classes)."""
    labels = tuple(f"c{index}" for index in range(chances.shape[1]))
    return Predictions(chances.argmax(axis=1), chances.astype(np.float32), labels)


def taken(predictions: Predictions, rows: np.ndarray) -> Predictions:
    """The answers to some rows, each as often as it is named."""
    chances = predictions.probabilities
    return Predictions(predictions.values[rows], None if chances is None else chances[rows], predictions.labels)
