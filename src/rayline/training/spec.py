"""What a training gets and what it gives, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import ClusterConfig, Config, ModelConfig, Task, TrainConfig
from rayline.model import InputLayout, outputs_for

if TYPE_CHECKING:
    from rayline.features.transform import FittedFeatureSet

Part = tuple[NDArray[np.float32], NDArray[Any]]
"""Features, float32 (n, inputs), and the target, int64 class indices or float32 standardised values, (n,)."""


@dataclass(frozen=True, slots=True)
class StreamedPart:
    """A training part that stays on disk, in a finished features step's ``folder``, which every node reaches."""

    folder: Path
    rows: int
    width: int


@dataclass(frozen=True, slots=True)
class TrainData:
    """The two parts that a training sees. ``train`` is empty where ``streamed`` says where it lies on disk."""

    train: Part
    valid: Part
    streamed: StreamedPart | None = None


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """What to train, and for which task.

    Attributes:
        layout: what each number of the input stands for.
        target_mean, target_std: of the target in its own unit (0 and 1 for a classification).
        cluster: where workers may be, and what they leave to services.
    """

    model: ModelConfig
    train: TrainConfig
    task: Task
    classes: tuple[str, ...]
    layout: InputLayout
    target_mean: float
    target_std: float
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    @classmethod
    def of(cls, config: Config, features: FittedFeatureSet) -> TrainSpec:
        """Return what a configuration trains on fitted features."""
        return cls(
            model=config.model,
            train=config.train,
            task=features.task,
            classes=features.classes,
            layout=features.layout,
            target_mean=features.target_mean,
            target_std=features.target_std,
            cluster=config.cluster,
        )

    @property
    def inputs(self) -> int:
        """How many numbers the model takes."""
        return self.layout.width

    @property
    def outputs(self) -> int:
        """How many numbers the network gives."""
        return outputs_for(self.task, self.classes)


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One finished epoch, from 1: its metrics, named ``train_loss``, ``valid_loss``, ``valid_accuracy``.

    ``at`` is when it ended, in Unix seconds: the tracking store knows by it that a point sent twice is one.
    """

    epoch: int
    metrics: Mapping[str, float]
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished training.

    Attributes:
        checkpoint: the best epoch's checkpoint.
        metrics: of the best epoch.
        stopped: ``finished`` after all epochs, ``early`` where patience ran out.
    """

    checkpoint: Path
    best_epoch: int
    metrics: dict[str, float]
    history: tuple[EpochReport, ...]
    stopped: str
    seconds: float
