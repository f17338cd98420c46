"""From a trial's parameters to the training that a worker does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec.structs import replace as with_fields

from rayline.config import Config, with_values
from rayline.training.spec import TrainSpec
from rayline.tuning.jobs import Job
from rayline.tuning.space.space import settings_of

DataFor = Callable[[Config], tuple[TrainSpec, Any]]
"""From a trial's configuration to what it trains and the object-store reference to its ``TrainData``."""


@dataclass(frozen=True, slots=True)
class JobMaker:
    """What all jobs of a Study have in common.

    Attributes:
        config: the base configuration.
        out: the Study's folder, absolute.
        asks: epochs after which the scheduler may end a trial.
        whole: train all epochs, whatever ``train.patience`` says.
    """

    config: Config
    data_for: DataFor
    out: Path
    asks: frozenset[int] = frozenset()
    whole: bool = False

    def job(self, number: int, params: Mapping[str, Any], until: int | None = None) -> Job:
        """Return the job of a trial. Raises whatever ``data_for`` raises, and ``ConfigError`` for bad parameters."""
        chosen = with_values(self.config, settings_of(params))
        spec, data = self.data_for(chosen)
        if self.whole:
            spec = replace(spec, train=with_fields(spec.train, patience=0))
        assert chosen.tune is not None
        return Job(
            number=number,
            spec=spec,
            data=data,
            folder=self.folder_of(number),
            asks=frozenset(epoch for epoch in self.asks if epoch < spec.train.epochs),
            until=until if until is not None and until < spec.train.epochs else None,
            threads=max(1, int(chosen.tune.cpus_per_trial)),
        )

    def folder_of(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.out / f"trial-{number:03d}"
