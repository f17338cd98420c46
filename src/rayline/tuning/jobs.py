"""What a Study hands to whoever runs its trials, and what it hears back. Plain values: no Ray, no Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from rayline.training.spec import EpochReport, TrainSpec

Status = Literal["finished", "stopped", "failed", "paused"]


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of training to do: a whole trial, or the next epochs of one.

    Attributes:
        number: the trial's.
        data: the reference to its ``TrainData`` in the object store.
        folder: the trial's own; where it holds a checkpoint, the training goes on from there.
        asks: epochs after which the worker waits for the word to go on.
        until: pause after this epoch; None trains to the end.
        threads: processor threads that the training may use.
    """

    number: int
    spec: TrainSpec
    data: Any
    folder: Path
    asks: frozenset[int] = frozenset()
    until: int | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: ``finished``, ``stopped`` by the word of the driver, ``paused`` at ``Job.until``, or ``failed``.
        metrics: of the best epoch, whose checkpoint is ``checkpoint``; empty and None where it failed.
        history: every epoch of the trial, those of earlier attempts too.
        error: why it failed.
    """

    status: Status
    metrics: dict[str, float]
    history: tuple[EpochReport, ...]
    checkpoint: Path | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What a worker tells: epochs since the last time, whether it waits for a word, and how its job ended.

    ``lost`` says why the worker died, where it did; the job has then to be given to another one.
    """

    number: int
    reports: tuple[EpochReport, ...] = ()
    asks: bool = False
    outcome: Outcome | None = None
    lost: str | None = None
    notices: tuple[str, ...] = field(default=())


class Crew(Protocol):
    """Those who run the jobs: Ray actors, or this process in a test."""

    def aim(self, waiting: int) -> str:
        """Have workers for so many jobs that wait, beside those at work, as far as there is room for them.

        Returns what it waits for, in words; nothing where it waits for nothing.
        """
        ...

    def free(self) -> int:
        """Return how many workers are up and idle."""
        ...

    def submit(self, job: Job) -> None:
        """Give a job to an idle worker."""
        ...

    def wait(self, seconds: float) -> Sequence[News]:
        """Return what there is to tell, after ``seconds`` at most. Each is to be answered, but for an end."""
        ...

    def answer(self, number: int, go_on: bool) -> None:
        """Answer the worker of a trial: go on, or end the trial after the epoch under way."""
        ...


class Plan(Protocol):
    """Who decides what is trained next."""

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do, now or later."""
        ...

    @property
    def waiting(self) -> int:
        """How many jobs could start now."""
        ...

    def next(self) -> Job | None:
        """Return what to train now; None where there is nothing until more is heard."""
        ...

    def reported(self, number: int, reports: Sequence[EpochReport], asks: bool) -> bool:
        """Take in the epochs of a trial, and return whether it goes on."""
        ...

    def ended(self, number: int, outcome: Outcome) -> None:
        """Take in how a job ended."""
        ...
