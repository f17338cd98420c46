"""Plots of a training and of its evaluation: Matplotlib figures that touch no global state and open no window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rayline.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rayline.evaluation.metrics import Evaluation

_COLOUR = "#3465a4"
_SECOND_COLOUR = "#cc6600"
_CELLS_WITH_NUMBERS = 20  # more classes than this leave no room for a number in a cell


def loss_curve(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw ``train_loss`` and ``valid_loss`` over the epochs.

    Args:
        history: the metrics of each epoch, in order.

    Raises:
        DataError: the history is empty.
    """
    if not history:
        raise DataError("a training without epochs has no loss curve.")
    figure, axes = _canvas("Loss", "epoch", "loss")
    for key, label, colour in (("train_loss", "train", _COLOUR), ("valid_loss", "validation", _SECOND_COLOUR)):
        points = [(epoch, metrics[key]) for epoch, metrics in enumerate(history, start=1) if key in metrics]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, color=colour, marker="." if len(points) < 50 else None)
    if axes.lines:
        axes.legend()
    return figure


def evaluation_plot(evaluation: Evaluation, rows: int = 10_000) -> Figure:
    """Draw the confusion matrix of a classification, or a regression's predictions against the truth.

    Args:
        evaluation: what was measured.
        rows: at most so many points are drawn, evenly spaced through the rows; the matrix counts every row.
    """
    if evaluation.task == "regression":
        return _predicted_against_true(evaluation, rows)
    return _confusion_matrix(evaluation)


def _confusion_matrix(evaluation: Evaluation) -> Figure:
    classes = evaluation.classes
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (evaluation.truth, evaluation.predictions.values), 1)
    figure, axes = _canvas(f"Confusion matrix, {evaluation.rows:,} rows", "predicted", "true")
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


def _predicted_against_true(evaluation: Evaluation, rows: int) -> Figure:
    drawn = np.unique(np.linspace(0, evaluation.rows - 1, min(rows, evaluation.rows)).astype(np.int64))
    truth, predicted = evaluation.truth[drawn], evaluation.predictions.values[drawn]
    figure, axes = _canvas(f"Predicted against true, {len(drawn):,} of {evaluation.rows:,} rows", "true", "predicted")
    axes.scatter(truth, predicted, s=6, alpha=0.4, color=_COLOUR, linewidths=0)
    ends = [float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))]
    axes.plot(ends, ends, color=_SECOND_COLOUR, linewidth=1, label="equal")
    axes.legend()
    return figure


def _canvas(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=across, ylabel=up)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes
