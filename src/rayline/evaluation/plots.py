"""Plots of a training and of its evaluation: Matplotlib figures that touch no global state and open no window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rayline.errors import DataError
from rayline.evaluation.canvas import COLOUR, SECOND_COLOUR, canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rayline.evaluation.metrics import Evaluation


def loss_curve(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw ``train_loss`` and ``valid_loss`` over the epochs.

    Args:
        history: the metrics of each epoch, in order.

    Raises:
        DataError: the history is empty.
    """
    if not history:
        raise DataError("a training without epochs has no loss curve.")
    figure, axes = canvas("Loss", "epoch", "loss")
    for key, label, colour in (("train_loss", "train", COLOUR), ("valid_loss", "validation", SECOND_COLOUR)):
        points = [(epoch, metrics[key]) for epoch, metrics in enumerate(history, start=1) if key in metrics]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, color=colour, marker="." if len(points) < 50 else None)
    if axes.lines:
        axes.legend()
    return figure


def evaluation_plots(evaluation: Evaluation, rows: int = 10_000) -> dict[str, Figure]:
    """Draw an evaluation, by the names that the files get.

    Args:
        evaluation: what was measured.
        rows: at most so many points are drawn, evenly spaced through the rows; whatever is counted counts every row.

    Returns:
        For a classification ``confusion_matrix``, for two classes ``roc`` and ``precision_recall`` where both occur;
        for a regression ``predicted_against_true`` and ``residuals``; ``calibration``, and ``slices`` where there are
        any.
    """
    from rayline.evaluation import plots_answers, plots_parts

    if evaluation.task == "regression":
        figures = {
            "predicted_against_true": plots_answers.predicted_against_true(evaluation, rows),
            "residuals": plots_answers.residuals(evaluation, rows),
        }
    else:
        figures = {"confusion_matrix": plots_answers.confusion_matrix(evaluation)}
        if evaluation.task == "binary" and 0 < int((evaluation.truth == 1).sum()) < evaluation.rows:
            figures["roc"] = plots_answers.roc(evaluation)
            figures["precision_recall"] = plots_answers.precision_recall(evaluation)
    if evaluation.calibration is not None:
        figures["calibration"] = plots_parts.calibration(evaluation.calibration)
    if evaluation.slices:
        figures["slices"] = plots_parts.slices(evaluation)
    return figures
