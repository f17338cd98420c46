"""What is refused before any worker starts: it needs neither data nor torch."""

from __future__ import annotations

from rayline.errors import ConfigError, suggestion
from rayline.model import family_of
from rayline.training.metrics import direction
from rayline.training.spec import TrainSpec


def check(spec: TrainSpec) -> None:
    """Refuse settings that do not go with the task, the classes, or the model.

    Raises:
        ConfigError: ``train.metric`` is unknown for the task; ``train.class_weights`` names an unknown label, or the
            target is a number; ``train.loop`` is to train what is no PyTorch module.
    """
    direction(spec.train.metric, spec.task)
    wanted = spec.train.class_weights
    if wanted is not None and spec.task == "regression":
        raise ConfigError("train.class_weights is for a classification; this target is a number. Leave it out.")
    for label in wanted if isinstance(wanted, dict) else ():
        if label not in spec.classes:
            raise ConfigError(
                f"train.class_weights names '{label}', which is no class of the target. "
                f"{suggestion(label, spec.classes)}"
            )
    if spec.train.loop is not None and family_of(spec.model.builder) != "torch":
        raise ConfigError(
            f"train.loop '{spec.train.loop}' trains PyTorch modules, and model.builder '{spec.model.builder}' gives "
            "none. Leave train.loop out, or name a builder that gives a module."
        )
