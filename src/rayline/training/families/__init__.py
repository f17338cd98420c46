"""The families of models: each trains, reports, checkpoints and resumes the same way. One file each, one suite.

A family is a function of a ``TrainContext`` that gives its ``TrainResult``. Its checkpoints hold one file that a Bundle
can be made of: ``model.safetensors`` (torch), ``model.skops`` (sklearn) or ``model.json`` (xgboost).
"""

from __future__ import annotations

from rayline.errors import ConfigError
from rayline.libraries import refuse_options
from rayline.model import family_of
from rayline.training.context import TrainContext
from rayline.training.spec import TrainResult, TrainSpec


def fit(context: TrainContext) -> TrainResult:
    """Train what ``context.spec.model`` names, from the last checkpoint on where there is one.

    Raises:
        TrainingFailed: the loss, or an output, is not finite; the message names epoch, step and learning rate.
        ConfigError: the metric, the builder or one of its options is unknown, or does not fit the task.
        DataError: the training part has fewer rows than there are workers, or the validation part has none.
        EnvironmentFailed: the builder's package is not installed.
    """
    family = family_of(context.spec.model.builder)
    if family == "sklearn":
        from rayline.training.families.sklearn import fit_estimator

        return fit_estimator(context)
    if family == "xgboost":
        from rayline.training.families.xgboost import fit_booster

        return fit_booster(context)
    from rayline.training.loop import fit_loop

    return fit_loop(context)


def refuse_unfit(spec: TrainSpec) -> None:
    """Refuse before anything starts what a family beside PyTorch could not train.

    Raises:
        ConfigError: an option is unknown, the estimator is for another task, or a setting is for PyTorch alone.
        EnvironmentFailed: the builder's package is not installed.
    """
    family, builder, settings = family_of(spec.model.builder), spec.model.builder, spec.train
    refuse_options(spec.model, spec.task)
    if family == "torch":
        return
    if settings.loop is not None:
        raise ConfigError(f"train.loop is for a PyTorch module, and model.builder '{builder}' trains itself. Drop it.")
    if settings.feed == "ray_data":
        raise ConfigError(f"model.builder '{builder}' takes the training part whole. Set train.feed to memory.")
    if family == "sklearn" and not settings.alone:
        raise ConfigError(
            f"model.builder '{builder}' trains in one process; set train.num_workers to 1. "
            "It takes every processor of that machine where it can."
        )
