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
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import storage
from rayline.errors import TrainingFailed
from rayline.training import checkpoint, record
from rayline.training.health import check_finite, disk_full, no_room
from rayline.training.metrics import direction
from rayline.training.spec import EpochReport, TrainData, TrainResult, TrainSpec

if TYPE_CHECKING:
    from rayline.training.feed import Feed

Save = Callable[[Path], None]
"""Writes everything that is needed to go on from here into a folder: weights, optimizer, random state."""

Load = Callable[[Path], None]
"""Reads what ``Save`` wrote."""

FIRST_COST = 0.01
"""Seconds that a checkpoint is thought to take before one has been written."""

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
        write_share: of the time, that checkpoints may take where an epoch's can be written later: short epochs are
            kept in memory, and written together. 1 writes each at once.
        notice: hears what the user should know, and that stops nothing.
    """

    spec: TrainSpec
    data: TrainData
    out: Path
    on_epoch: Listener
    place: Place = field(default_factory=Place)
    feed: Feed | None = None
    notice: Callable[[str], None] = lambda text: None
    write_share: float = 0.01
    _history: list[EpochReport] = field(default_factory=list, init=False)
    _told: dict[int, EpochReport] = field(default_factory=dict, init=False)
    _waiting: dict[int, Save] = field(default_factory=dict, init=False)
    _lost: set[int] = field(default_factory=set, init=False)
    _ended: bool = field(default=False, init=False)
    _seconds: float = field(default=0.0, init=False)
    _began: float = field(default_factory=time.perf_counter, init=False)
    _written: float = field(default_factory=time.perf_counter, init=False)
    _cost: float = field(default=FIRST_COST, init=False)

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
        """Whether patience has run out, or the loop itself has said that this was its last epoch."""
        patience = self.spec.train.patience
        return self._ended or (bool(patience) and self.epoch - self.best_epoch >= patience)

    @property
    def done(self) -> bool:
        """Whether no epoch is left to train."""
        return self.epoch >= self.spec.train.epochs or self.early

    def resume(self, load: Load) -> int:
        """Load the last whole checkpoint, tell its epochs again, and return its epoch; 0 where there is none."""
        found = checkpoint.latest(self.out, self.notice)
        if found is not None:
            load(found.path)
            self._seconds = float(found.state["seconds"])
            self._ended = bool(found.state.get("ended"))
            self._history = [EpochReport(raw["epoch"], raw["metrics"], raw["at"]) for raw in found.state["history"]]
            self._look_for_lost()
        self._told = record.after(self.out, self._key, self._history)
        if self.place.rank == 0 and (self._history or self._told):
            record.restart(self.out, self._key, [*self._history, *self._told.values()])
        for report in self._history:
            self.on_epoch(report)
        return self.epoch

    def report(
        self,
        metrics: Mapping[str, float],
        save: Save | None = None,
        *,
        freeze: Callable[[], Save] | None = None,
        last: bool = False,
    ) -> None:
        """End an epoch: keep its checkpoint (first worker), then tell it.

        An epoch that is trained again, as a process was killed before its checkpoint was written, is told as it was
        told first.

        Args:
            metrics: ``train_loss``, ``valid_loss`` and so on; ``valid_{train.metric}`` must be among them.
            save: writes the checkpoint's own files, now.
            freeze: instead of ``save``: copies what is to be written, and returns what writes the copy, now or later.
            last: the training ends here, by the loop's own judgement.

        Raises:
            TrainingFailed: the watched metric is missing, or not finite.
            EnvironmentFailed: there is no room for the checkpoint.
        """
        self._check(metrics)
        report = EpochReport(self.epoch + 1, dict(metrics), time.time())
        first = self._told.pop(report.epoch, None)
        if first is not None:
            record.compare(first, report, self.notice)
        self._history.append(first or report)
        self._ended = last
        if self.place.rank == 0:
            writer = save or (freeze() if freeze is not None else None)
            assert writer is not None, "report needs save or freeze"
            self._waiting[self.epoch] = writer
            self._forget()
            if save is not None or self._due():
                self.secure()
            if first is None:
                self._record(report)
        try:
            self.on_epoch(self._history[-1])
        except BaseException:
            self.secure()
            raise

    def secure(self) -> None:
        """Write what waits to be written. Raises ``EnvironmentFailed`` where there is no room for it."""
        if not self._waiting:
            return
        began = time.perf_counter()
        waiting, self._waiting = self._waiting, {}  # what could not be written once is not tried again
        for epoch in sorted(waiting):
            checkpoint.write(self.out, epoch, waiting[epoch], self._state(epoch))
        checkpoint.prune(self.out, self._kept())
        self._written = time.perf_counter()
        self._cost = self._written - began

    def result(self) -> TrainResult:
        """Return what the training gave, once its storage has all of it.

        Raises:
            TrainingFailed: no epoch was finished.
            StorageError: the object store does not take the checkpoints.
        """
        if not self._history:
            raise TrainingFailed("the training loop ended without a single report.")
        self.secure()
        storage.settle()
        best = next(epoch for epoch in self._ranked() if epoch not in self._lost)
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

    @cached_property
    def _key(self) -> str:
        return record.key_of(self.spec)

    def _check(self, metrics: Mapping[str, float]) -> None:
        watched, epoch = f"valid_{self.spec.train.metric}", self.epoch + 1
        if watched not in metrics:
            raise TrainingFailed(f"epoch {epoch} reported no '{watched}', which train.metric watches.")
        check_finite(metrics[watched], watched, f"epoch {epoch}", self.spec.train.learning_rate)

    def _due(self) -> bool:
        """Return whether a checkpoint may be written now: at the end, or when it costs no more than its share."""
        return self.done or time.perf_counter() - self._written >= self._cost * (1 / self.write_share - 1)

    def _kept(self) -> set[int]:
        return {*self._ranked()[: self.spec.train.checkpoint.num_to_keep], self.epoch}

    def _forget(self) -> None:
        for epoch in self._waiting.keys() - self._kept():
            del self._waiting[epoch]

    def _record(self, report: EpochReport) -> None:
        try:
            record.add(self.out, self._key, report)
        except OSError as error:
            if disk_full(error):
                raise no_room(error, self.out, None) from error
            raise

    def _look_for_lost(self) -> None:
        """Find out which epochs cannot be the result any more, as their checkpoints are damaged or gone."""
        best = self.best_epoch
        whole = {epoch for epoch in checkpoint.epochs(self.out) if checkpoint.read(self.out, epoch) is not None}
        self._lost = set(range(1, self.epoch)) - whole
        if best in self._lost:
            self.notice(f"the checkpoint of epoch {best}, the best so far, is damaged or gone: the next best is kept")

    def _state(self, epoch: int) -> dict[str, Any]:
        history = [record.plain(each) for each in self._history[:epoch]]
        return {"history": history, "seconds": self._elapsed(), "ended": self._ended and epoch == self.epoch}

    def _elapsed(self) -> float:
        return self._seconds + time.perf_counter() - self._began
