"""The plots: what is drawn, and that no window or global state is touched."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from evaluation_examples import TASKS, answered
from rayline.config import Task
from rayline.errors import DataError
from rayline.evaluation.calibration import calibration_of
from rayline.evaluation.intervals import Interval
from rayline.evaluation.metrics import Evaluation, SliceScores
from rayline.evaluation.plots import evaluation_plots, loss_curve
from rayline.evaluation.slices import Slice
from rayline.evaluation.worst import Worst
from rayline.registry.predictor import Predictions


def drawn(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def classified(classes: int) -> Evaluation:
    names = tuple(f"c{index}" for index in range(classes))
    truth = np.arange(classes * 3) % classes
    answers = np.where(np.arange(classes * 3) < classes, (truth + 1) % classes, truth)
    predictions = Predictions(answers, np.eye(classes, dtype=np.float32)[answers], names)
    return Evaluation("multiclass" if classes > 2 else "binary", names, {}, len(truth), predictions, truth)


def test_the_loss_curve_has_a_line_for_each_part() -> None:
    history = [{"train_loss": 3.0, "valid_loss": 4.0}, {"train_loss": 2.0, "valid_loss": 3.5, "valid_accuracy": 0.5}]

    figure = loss_curve(history)

    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert lines == {"train": [[1, 3], [2, 2]], "validation": [[1, 4], [2, 3.5]]}
    assert drawn(figure).startswith(b"\x89PNG")


def test_no_epochs_have_no_curve() -> None:
    with pytest.raises(DataError, match="without epochs"):
        loss_curve([])


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_the_confusion_matrix_counts_every_row(classes: int) -> None:
    figure = evaluation_plots(classified(classes))["confusion_matrix"]

    axes = figure.axes[0]
    counts = np.array([int(text.get_text()) for text in axes.texts]).reshape(classes, classes)
    assert counts.sum() == classes * 3
    assert np.diag(counts).tolist() == [2] * classes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"c{index}" for index in range(classes)]
    assert drawn(figure).startswith(b"\x89PNG")


def test_many_classes_leave_the_numbers_out() -> None:
    assert not evaluation_plots(classified(30))["confusion_matrix"].axes[0].texts


def test_predicted_against_true_draws_no_more_than_asked() -> None:
    truth = np.arange(500.0)
    evaluation = Evaluation("regression", (), {}, 500, Predictions(truth + 1, None, None), truth)

    figures = evaluation_plots(evaluation, rows=100)

    points = figures["predicted_against_true"].axes[0].collections[0].get_offsets()
    assert len(points) == 100
    assert points[0].tolist() == [0, 1]
    assert points[-1].tolist() == [499, 500]
    left = figures["residuals"].axes[0].collections[0].get_offsets()
    assert left[:, 0].tolist() == points[:, 1].tolist()
    assert set(left[:, 1].tolist()) == {1}


def test_two_classes_have_their_curves_from_corner_to_corner() -> None:
    truth, predictions = answered("binary", 300)
    evaluation = Evaluation("binary", ("no", "yes"), {"roc_auc": 0.9}, 300, predictions, truth)

    figures = evaluation_plots(evaluation)

    assert list(figures) == ["confusion_matrix", "roc", "precision_recall"]
    across, up = figures["roc"].axes[0].lines[0].get_data()
    assert (across[0], up[0], across[-1], up[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(up, across) == pytest.approx(roc_auc_score(truth, predictions.probabilities[:, 1]))
    recall, precision = figures["precision_recall"].axes[0].lines[0].get_data()
    assert recall[-1] == 1
    assert precision[-1] == pytest.approx(truth.mean())
    assert all(drawn(figure).startswith(b"\x89PNG") for figure in figures.values())


@pytest.mark.parametrize("task", TASKS)
def test_bins_and_slices_are_drawn_with_their_intervals(task: Task) -> None:
    truth, predictions = answered(task, 300)
    name = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}[task]
    rows = np.arange(60)
    town = Slice("town = Łódź & cost < 5 $", "town & cost", rows)
    slices = (
        SliceScores(Slice("open = true", "open", rows), {name: Interval(0.5, 0.4, 0.7)}),
        SliceScores(town, {name: Interval(0.3, float("nan"), float("nan"))}, Worst(town, 2.0, 1.0, 0.5, 0.01)),
    )
    evaluation = Evaluation(
        task,
        predictions.labels or (),
        {},
        300,
        predictions,
        truth,
        {name: Interval(0.6, 0.5, 0.7)},
        slices=slices,
        calibration=calibration_of(task, truth, predictions),
    )

    figures = evaluation_plots(evaluation)

    assert len(figures["calibration"].axes[0].lines[0].get_xdata()) == 10
    assert [text.get_text() for text in figures["slices"].axes[0].get_yticklabels()] == [
        "open = true  (60)",
        "town = Łódź & cost < 5 \\$  (60)",
    ]
    assert drawn(figures["slices"]).startswith(b"\x89PNG")


def test_drawing_needs_neither_pyplot_nor_a_screen() -> None:
    script = (
        "import io, sys; from rayline.evaluation.plots import loss_curve;"
        "loss_curve([{'train_loss': 1.0}]).savefig(io.BytesIO(), format='png');"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
