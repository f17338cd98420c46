"""The libraries beside PyTorch that a model can be of: what their options may be, and how their answers are read.

Training and serving both lie above, so that a model answers the same wherever it is asked.
"""

from __future__ import annotations

from rayline.config import ModelConfig, Task
from rayline.model import family_of


def refuse_options(model: ModelConfig, task: Task | None) -> None:
    """Refuse a model of scikit-learn or XGBoost that could not be trained for a task, before anything starts.

    Where the task is not known yet, it refuses what fits none.

    Raises:
        ConfigError: there is no such estimator, it is for another task, or has no such option; names the nearest.
        EnvironmentFailed: its package is not installed.
    """
    family = family_of(model.builder)
    if family == "sklearn":
        from rayline.libraries.scikit import estimator_for

        estimator_for(model, task, seed=0)
    if family == "xgboost":
        from rayline.libraries.boosting import parameters_for, xgboost

        parameters_for(model, task, classes=3)
        xgboost()
