"""What a training loop works with, wherever it runs: in this process, in a trial, or in a worker of a group.

Every family's loop has the same shape::

    epoch = context.resume(load)            # 0, or the last whole checkpoint's epoch, loaded
    while not context.done:
        ...                                 # one epoch
        context.report(metrics, save)       # checkpoint, then tell; early stopping is decided here
    return context.result()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.errors import TrainingFailed
from rayline.training import checkpoint
from rayline.training.metrics import direction
from rayline.training.spec import EpochReport, TrainData, TrainResult, TrainSpec

if TYPE_CHECKING:
    from rayline.training.feed import Feed

Save = Callable[[Path], None]
"""Writes everything that is needed to go on from here into a folder: weights, optimizer, random state."""

Load = Callable[[Path], None]
"""Reads what ``Save`` wrote."""

Listener = Callable[[EpochReport], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a loop runs: which of how many workers, on which device, with how many processor threads."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"
    threads: int = 1


@dataclass
class TrainContext:
    """One training under way.

    Attributes:
        spec: what to train.
        data: both parts, whole; a worker takes its share of each epoch's order.
        out: the training's folder, the same for every attempt: checkpoints lie below it.
        on_epoch: hears each epoch once per process, those of an earlier attempt too; what it raises ends the training.
        place: where this loop runs.
        feed: where batches come from; None takes them from ``data.train``. A feed that streams leaves that part empty.
        notice: hears what the user should know, and that stops nothing.
    """

    spec: TrainSpec
    data: TrainData
    out: Path
    on_epoch: Listener
    place: Place = field(default_factory=Place)
    feed: Feed | None = None
    notice: Callable[[str], None] = lambda text: None
    _history: list[EpochReport] = field(default_factory=list, init=False)
    _seconds: float = field(default=0.0, init=False)
    _began: float = field(default_factory=time.perf_counter, init=False)

    @property
    def epoch(self) -> int:
        """The last finished epoch; 0 before the first."""
        return len(self._history)

    @property
    def best_epoch(self) -> int:
        """The epoch with the best ``valid_{metric}`` so far, the first of equals; 0 before the first."""
        return self._ranked()[0] if self._history else 0

    @property
    def early(self) -> bool:
        """Whether patience has run out."""
        patience = self.spec.train.patience
        return bool(patience) and self.epoch - self.best_epoch >= patience

    @property
    def done(self) -> bool:
        """Whether no epoch is left to train."""
        return self.epoch >= self.spec.train.epochs or self.early

    def resume(self, load: Load) -> int:
        """Load the last whole checkpoint, tell its epochs again, and return its epoch; 0 where there is none."""
        found = checkpoint.latest(self.out, self.notice)
        if found is None:
            return 0
        load(found.path)
        self._seconds = float(found.state["seconds"])
        for raw in found.state["history"]:
            report = EpochReport(raw["epoch"], raw["metrics"], raw["at"])
            self._history.append(report)
            self.on_epoch(report)
        return found.epoch

    def report(self, metrics: Mapping[str, float], save: Save) -> None:
        """End an epoch: keep its checkpoint (first worker), then tell it.

        Args:
            metrics: ``train_loss``, ``valid_loss`` and so on; ``valid_{train.metric}`` must be among them.
            save: writes the checkpoint's own files.

        Raises:
            TrainingFailed: the watched metric is missing.
        """
        watched = f"valid_{self.spec.train.metric}"
        if watched not in metrics:
            raise TrainingFailed(f"epoch {self.epoch + 1} reported no '{watched}', which train.metric watches.")
        report = EpochReport(self.epoch + 1, dict(metrics), time.time())
        self._history.append(report)
        if self.place.rank == 0:
            checkpoint.write(self.out, report.epoch, save, self._state())
            best = self._ranked()[: self.spec.train.checkpoint.num_to_keep]
            checkpoint.prune(self.out, {*best, report.epoch})
        self.on_epoch(report)

    def result(self) -> TrainResult:
        """Return what the training gave. Raises ``TrainingFailed`` where no epoch was finished."""
        if not self._history:
            raise TrainingFailed("the training loop ended without a single report.")
        best = self.best_epoch
        return TrainResult(
            checkpoint=checkpoint.folder_of(self.out, best),
            best_epoch=best,
            metrics=dict(self._history[best - 1].metrics),
            history=tuple(self._history),
            stopped="early" if self.early else "finished",
            seconds=self._elapsed(),
        )

    def _ranked(self) -> list[int]:
        settings = self.spec.train
        sign = 1 if direction(settings.metric, self.spec.task) == "min" else -1
        key = f"valid_{settings.metric}"
        return sorted(range(1, self.epoch + 1), key=lambda epoch: (sign * self._history[epoch - 1].metrics[key], epoch))

    def _state(self) -> dict[str, Any]:
        history = [{"epoch": each.epoch, "metrics": dict(each.metrics), "at": each.at} for each in self._history]
        return {"history": history, "seconds": self._elapsed()}

    def _elapsed(self) -> float:
        return self._seconds + time.perf_counter() - self._began
