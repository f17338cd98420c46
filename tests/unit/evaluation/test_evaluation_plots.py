"""The plots: what is drawn, and that no window or global state is touched."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from rayline.errors import DataError
from rayline.evaluation.metrics import Evaluation
from rayline.evaluation.plots import evaluation_plot, loss_curve
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
    figure = evaluation_plot(classified(classes))

    axes = figure.axes[0]
    counts = np.array([int(text.get_text()) for text in axes.texts]).reshape(classes, classes)
    assert counts.sum() == classes * 3
    assert np.diag(counts).tolist() == [2] * classes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"c{index}" for index in range(classes)]
    assert drawn(figure).startswith(b"\x89PNG")


def test_many_classes_leave_the_numbers_out() -> None:
    assert not evaluation_plot(classified(30)).axes[0].texts


def test_predicted_against_true_draws_no_more_than_asked() -> None:
    truth = np.arange(500.0)
    evaluation = Evaluation("regression", (), {}, 500, Predictions(truth + 1, None, None), truth)

    points = evaluation_plot(evaluation, rows=100).axes[0].collections[0].get_offsets()

    assert len(points) == 100
    assert points[0].tolist() == [0, 1]
    assert points[-1].tolist() == [499, 500]


def test_drawing_needs_neither_pyplot_nor_a_screen() -> None:
    script = (
        "import io, sys; from rayline.evaluation.plots import loss_curve;"
        "loss_curve([{'train_loss': 1.0}]).savefig(io.BytesIO(), format='png');"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
