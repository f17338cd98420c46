"""Plots of answers against the truth, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rayline.evaluation.canvas import COLOUR, GREY, SECOND_COLOUR, canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rayline.evaluation.metrics import Evaluation

_CELLS_WITH_NUMBERS = 20  # more classes than this leave no room for a number in a cell
_CORNERS = 2_000  # points of a curve that are drawn


def confusion_matrix(evaluation: Evaluation) -> Figure:
    """Draw how often each class was answered with each, as shares of the true class."""
    classes = evaluation.classes
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (evaluation.truth, evaluation.predictions.values), 1)
    figure, axes = canvas(f"Confusion matrix, {evaluation.rows:,} rows", "predicted", "true")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.grid(visible=False)
    places = range(len(classes))
    axes.set_xticks(places, classes, rotation=45, ha="right")
    axes.set_yticks(places, classes)
    if len(classes) <= _CELLS_WITH_NUMBERS:
        for true, predicted in np.ndindex(counts.shape):
            colour = "white" if shares[true, predicted] > 0.5 else "black"
            axes.text(predicted, true, f"{counts[true, predicted]:,}", ha="center", va="center", color=colour)
    return figure


def roc(evaluation: Evaluation) -> Figure:
    """Draw the share of the second class that is found against the share of false alarms, over all thresholds."""
    hits, alarms = _counts(evaluation)
    area = evaluation.metrics.get("roc_auc")
    first, second = (f"'{each}'" for each in evaluation.classes)
    figure, axes = canvas("ROC curve", f"false alarms, share of {first}", f"found, share of {second}")
    label = f"area {area:.3f}" if area is not None else "model"
    axes.plot(*_thinned(alarms / alarms[-1], hits / hits[-1]), color=COLOUR, label=label)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="by chance")
    axes.legend(loc="lower right")
    return figure


def precision_recall(evaluation: Evaluation) -> Figure:
    """Draw the share of alarms that are right against the share of the second class that is found."""
    hits, alarms = _counts(evaluation)
    recall, precision = hits[1:] / hits[-1], hits[1:] / (hits[1:] + alarms[1:])
    average = evaluation.metrics.get("average_precision")
    figure, axes = canvas("Precision and recall", "recall", "precision")
    label = f"average precision {average:.3f}" if average is not None else "model"
    axes.plot(*_thinned(recall, precision), color=COLOUR, label=label, drawstyle="steps-post")
    share = hits[-1] / (hits[-1] + alarms[-1])
    axes.axhline(share, color=GREY, linewidth=1, linestyle="--", label=f"by chance {share:.3f}")
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower left")
    return figure


def predicted_against_true(evaluation: Evaluation, rows: int) -> Figure:
    """Draw each of at most ``rows`` predictions against its truth."""
    drawn = _drawn(evaluation, rows)
    truth, predicted = evaluation.truth[drawn], evaluation.predictions.values[drawn]
    figure, axes = canvas(f"Predicted against true, {len(drawn):,} of {evaluation.rows:,} rows", "true", "predicted")
    axes.scatter(truth, predicted, s=6, alpha=0.4, color=COLOUR, linewidths=0)
    ends = [float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))]
    axes.plot(ends, ends, color=SECOND_COLOUR, linewidth=1, label="equal")
    axes.legend()
    return figure


def residuals(evaluation: Evaluation, rows: int) -> Figure:
    """Draw the error of each of at most ``rows`` predictions against the prediction."""
    drawn = _drawn(evaluation, rows)
    predicted = evaluation.predictions.values[drawn]
    figure, axes = canvas("Residuals", "predicted", "predicted - true")
    axes.scatter(predicted, predicted - evaluation.truth[drawn], s=6, alpha=0.4, color=COLOUR, linewidths=0)
    axes.axhline(0.0, color=GREY, linewidth=1)
    bias = evaluation.metrics.get("bias")
    if bias is not None:
        axes.axhline(bias, color=SECOND_COLOUR, linewidth=1, linestyle="--", label=f"mean {bias:.4g}")
        axes.legend()
    return figure


def _drawn(evaluation: Evaluation, rows: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, evaluation.rows - 1, min(rows, evaluation.rows)).astype(np.int64))


def _counts(evaluation: Evaluation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return hits and false alarms at each distinct threshold, falling, each from 0 on."""
    probabilities = evaluation.predictions.probabilities
    assert probabilities is not None
    order = np.argsort(-probabilities[:, 1], kind="stable")
    falling = probabilities[order, 1]
    last = np.concatenate((falling[1:] != falling[:-1], [True]))
    hits = np.cumsum(evaluation.truth[order] == 1)[last]
    seen = np.arange(1, evaluation.rows + 1)[last]
    return np.concatenate(([0.0], hits)), np.concatenate(([0.0], seen - hits))


def _thinned(across: NDArray[np.float64], up: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kept = np.unique(np.linspace(0, len(across) - 1, min(_CORNERS, len(across))).astype(np.int64))
    return across[kept], up[kept]
