"""The loss of each task, and the weight of each class in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rayline.config import Task, TrainConfig


class TaskLoss:
    """Mean squared error, or cross-entropy, over a batch.

    A weighted loss is divided by the number of rows and not by their weights, so that accumulated batches and workers
    add up to the loss of all their rows. The average training row weighs 1, so that the learning rate keeps its sense.

    Args:
        task: what the network answers.
        weights: of each class, float32 (classes,), on the loss's device; None weighs all rows alike.
    """

    def __init__(self, task: Task, weights: Tensor | None = None) -> None:
        self._task = task
        self._weights = weights

    def __call__(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Return the loss, a float32 scalar, of outputs (n, outputs) against the truth (n,)."""
        if self._task == "regression":
            loss: Tensor = functional.mse_loss(outputs[:, 0], truth)
        elif self._task == "binary":
            weight = None if self._weights is None else self._weights[truth.long()]
            loss = functional.binary_cross_entropy_with_logits(outputs[:, 0], truth, weight)
        elif self._weights is None:
            loss = functional.cross_entropy(outputs, truth)
        else:
            loss = functional.cross_entropy(outputs, truth, self._weights, reduction="sum") / len(truth)
        return loss


def class_weights(settings: TrainConfig, classes: Sequence[str], counts: NDArray[np.int64]) -> Tensor:
    """Return the weight of each class, float32 (classes,).

    ``balanced`` gives each class the inverse of its frequency (King and Zeng 2001); weights by label are relative,
    and a label that is not named has 1. Both are scaled so that the average training row weighs 1.

    Args:
        settings: ``class_weights``, which ``checks.check`` has passed.
        classes: the labels, by index.
        counts: training rows of each class; int64 (classes,).
    """
    wanted = settings.class_weights
    if isinstance(wanted, dict):
        raw = np.array([wanted.get(label, 1.0) for label in classes])
    else:
        raw = 1.0 / np.maximum(counts, 1)
    mean = float((raw * counts).sum() / max(1, counts.sum()))
    return torch.tensor(raw / (mean or 1.0), dtype=torch.float32)
