"""The families of models: each trains, reports, checkpoints and resumes the same way. One file each, one suite.

A family is a function of a ``TrainContext`` that gives its ``TrainResult``. Its checkpoints hold one file that a Bundle
can be made of: ``model.safetensors`` (torch), ``model.skops`` (sklearn) or ``model.json`` (xgboost).
"""

from __future__ import annotations

from rayline.model import family_of
from rayline.training.context import TrainContext
from rayline.training.spec import TrainResult


def fit(context: TrainContext) -> TrainResult:
    """Train what ``context.spec.model`` names, from the last checkpoint on where there is one.

    Raises:
        TrainingFailed: the loss, or an output, is not finite; the message names epoch, step and learning rate.
        ConfigError: the metric or the builder is unknown.
        DataError: the training part has fewer rows than there are workers, or the validation part has none.
    """
    family = family_of(context.spec.model.builder)
    if family == "torch":
        from rayline.training.loop import fit_loop

        return fit_loop(context)
    raise NotImplementedError(family)
