"""A Study without Ray: workers that train nothing, in this process, and a driver that can be killed at any turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayline.config import Config
from rayline.training.spec import EpochReport, TrainSpec
from rayline.tuning.course import Course
from rayline.tuning.job_maker import DataFor, JobMaker
from rayline.tuning.jobs import Job, News, Outcome
from rayline.tuning.ledger import Ledger, Trial, read
from rayline.tuning.limits import Limits
from rayline.tuning.population import Population
from rayline.tuning.samplers import Suggester
from rayline.tuning.schedulers import decisions, most_epochs
from rayline.tuning.search import Search

METRIC = "valid_loss"


class Killed(BaseException):
    """The driver's end."""


def loss_of(spec: TrainSpec, epoch: int) -> float:
    """Return a loss that falls with each epoch, and is least at a learning rate of 0.01."""
    return (math.log10(spec.train.learning_rate) + 2) ** 2 + 1 / epoch


@dataclass
class Disk:
    """What outlives a driver: the Study's folder, and the epochs that each trial has a checkpoint of."""

    out: Path
    epochs: dict[Path, list[EpochReport]] = field(default_factory=dict)
    trained: int = 0

    @property
    def ledger(self) -> Path:
        return self.out / "trials.jsonl"

    def hand_over(self, source: Path, heir: Path) -> None:
        """Copy checkpoints from trial to trial."""
        self.epochs[heir] = list(self.epochs[source])


@dataclass
class Workers:
    """A ``Crew`` that trains one epoch of one trial at each turn; ``turns`` of them, then the driver is killed.

    ``deaths`` are the turns at which the worker whose turn it is dies.
    """

    disk: Disk
    size: int = 1
    turns: int | None = None
    deaths: frozenset[int] = frozenset()
    fail: Callable[[Job, int], str | None] = lambda job, epoch: None
    jobs: dict[int, Job] = field(default_factory=dict)
    told: dict[int, int] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    stopped: set[int] = field(default_factory=set)
    most: int = 0
    turn: int = 0

    def aim(self, waiting: int) -> str:
        assert waiting >= 0
        return ""

    def free(self) -> int:
        return self.size - len(self.jobs)

    def submit(self, job: Job) -> None:
        assert job.number not in self.jobs
        assert self.free()
        self.jobs[job.number] = job
        self.told[job.number] = 0
        self.most = max(self.most, len(self.jobs))

    def answer(self, number: int, go_on: bool) -> None:
        self.waiting.discard(number)
        if not go_on:
            self.stopped.add(number)

    def wait(self, seconds: float) -> Sequence[News]:
        self.turn += 1
        if self.turns is not None and self.turn > self.turns:
            raise Killed
        assert self.jobs, "the driver waits for nothing"
        assert not self.waiting, "a worker was left without an answer"
        ready = list(self.jobs)
        number = ready[self.turn % len(ready)]
        if self.turn in self.deaths:
            del self.jobs[number]
            return [News(number, lost="its worker process was killed")]
        return [self._step(self.jobs[number])]

    def _step(self, job: Job) -> News:
        done = self.disk.epochs.setdefault(job.folder, [])
        at = self.told[job.number] + 1
        if job.number in self.stopped:
            self.stopped.discard(job.number)
            return self._end(job, "stopped", done)
        if at > job.spec.train.epochs:
            return self._end(job, "finished", done)
        if job.until is not None and at > job.until:
            return self._end(job, "paused", done)
        error = self.fail(job, at)
        if error is not None:
            del self.jobs[job.number]
            return News(job.number, outcome=Outcome("failed", {}, (), None, error))
        if len(done) < at:
            done.append(EpochReport(at, {METRIC: loss_of(job.spec, at), "valid_mae": job.spec.train.learning_rate}))
            self.disk.trained += 1
        self.told[job.number] = at
        self.waiting.add(job.number)
        return News(job.number, (done[at - 1],), at in job.asks)

    def _end(self, job: Job, status: Any, done: list[EpochReport]) -> News:
        del self.jobs[job.number]
        history = tuple(done)
        best = min(history, key=lambda report: report.metrics[METRIC])
        outcome = Outcome(status, dict(best.metrics), history, job.folder / f"epoch-{best.epoch}")
        return News(job.number, outcome=outcome)


def attempt(
    disk: Disk,
    config: Config,
    data_for: DataFor,
    workers: Workers,
    *,
    earlier: Sequence[Trial] = (),
    directions: Sequence[str] = ("min",),
    on_trial: Callable[[Trial], None] = lambda trial: None,
    notice: Callable[[str], None] = lambda text: None,
) -> tuple[list[Trial], str | None]:
    """Run one attempt at a Study, and return its trials by number and why it ended. Raises ``Killed``."""
    tune = config.tune
    assert tune is not None
    longest = most_epochs(config, tune.space)
    metrics = [f"valid_{name}" for name in tune.objectives or (config.train.metric,)]
    kept = Ledger(disk.ledger)
    try:
        suggester = Suggester(tune, tune.space, metrics, directions, longest, earlier)
        limits = Limits(tune.trials, tune.stop, 1 if directions[0] == "min" else -1)
        jobs = JobMaker(config, data_for, disk.out, decisions(tune, longest), whole=tune.scheduler == "pbt")
        plan: Any
        if tune.scheduler == "pbt":
            plan = Population(tune, suggester, jobs, kept, limits, longest, metrics[0], on_trial, disk.hand_over)
        else:
            plan = Search(suggester, jobs, kept, limits, metrics[0], on_trial)
        Course(workers, plan, config.train.max_failures, notice=notice).run()
    finally:
        kept.close()
    return sorted(read(disk.ledger), key=lambda trial: trial.number), plan.ended_by
