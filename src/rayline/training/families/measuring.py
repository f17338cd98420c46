"""What the families beside PyTorch share: the data they refuse, the weight of each row, the metrics of an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import ConfigError, DataError, TrainingFailed, suggestion
from rayline.training.context import TrainContext
from rayline.training.families import refuse_unfit
from rayline.training.metrics import direction, measure
from rayline.training.spec import TrainSpec


def refuse_unusable(context: TrainContext) -> None:
    """Refuse before anything starts what no epoch could be measured on, and what ``refuse_unfit`` does.

    Raises:
        ConfigError: ``train.metric`` or an option is unknown, or does not fit.
        DataError: a part has too few rows, or the training part holds a number that is not finite.
    """
    refuse_unfit(context.spec)
    direction(context.spec.train.metric, context.spec.task)
    rows, world = len(context.data.train[0]), context.place.world
    if not rows:
        raise DataError("the training part has no rows.")
    if rows < world:
        raise DataError(
            f"the training part has {rows} rows, too few for {world} workers. "
            "Lower train.num_workers, or give more data."
        )
    if not len(context.data.valid[0]):
        raise DataError("the validation part has no rows to choose the best epoch by. Raise data.split.valid.")
    if not np.isfinite(context.data.train[0]).all():
        row = int(np.argmin(np.isfinite(context.data.train[0]).all(axis=1)))
        raise TrainingFailed(
            f"row {row} of the training part holds a number that is not finite. "
            "Look for extreme values in the data with `rayline validate`."
        )


def class_weights(spec: TrainSpec, truth: NDArray[Any]) -> dict[int, float] | None:
    """Return the weight of each class's rows by its index; None where all are 1.

    ``balanced`` is scikit-learn's: the rows by the number of classes times the rows of the class.

    Raises:
        ConfigError: there are no classes, or a label is not one of them.
    """
    asked = spec.train.class_weights
    if asked is None:
        return None
    if spec.task == "regression":
        raise ConfigError("train.class_weights is for classifications, and this is a regression. Leave it out.")
    if asked == "balanced":
        counts = np.bincount(truth, minlength=len(spec.classes))
        return {each: len(truth) / (len(counts) * max(int(count), 1)) for each, count in enumerate(counts)}
    for label in asked:
        if label not in spec.classes:
            raise ConfigError(f"train.class_weights has no class '{label}'. {suggestion(label, spec.classes)}")
    return {each: float(asked.get(label, 1.0)) for each, label in enumerate(spec.classes)}


def epoch_metrics(context: TrainContext, train_loss: float, valid: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of the epoch that has just been learnt.

    Args:
        context: of the training.
        train_loss: over the training part.
        valid: outputs for the validation part, float64 (n, outputs).

    Raises:
        TrainingFailed: an output is not finite.
    """
    spec = context.spec
    broken = valid[~np.isfinite(valid)]
    if broken.size:
        raise TrainingFailed(
            f"an output for the validation part is {broken[0]} at epoch {context.epoch + 1} of "
            f"'{spec.model.builder}'. Lower its learning rate, or look for extreme values with `rayline validate`."
        )
    measured = measure(spec.task, valid, context.data.valid[1], spec.target_std)
    return {"train_loss": train_loss, **{f"valid_{name}": value for name, value in measured.items()}}
