"""The workers of a Study: Ray actors that are kept warm and reused from trial to trial.

A worker trains in a thread of its own. The driver holds one call on each worker, which returns when the job has ended,
when the training waits for a word, or after a second; the next call carries the answer. A trial that nobody may end
early so costs one call, and one more for each second that it takes.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from rayline.errors import ClusterError, RaylineError
from rayline.model import family_of
from rayline.storage import folder_of
from rayline.training.context import Place, TrainContext
from rayline.training.spec import EpochReport, TrainData, TrainResult
from rayline.tuning.jobs import Job, News, Outcome

HEARTBEAT_S = 1.0
START_ATTEMPTS = 3
ERROR_FILE = "error.txt"


class _Ended(BaseException):
    """Ends a training from its own report; no handler of a user's loop should take it for an error."""


class Worker:
    """One worker process.

    Args:
        builder: tells what to load before the first trial comes.
        folders: where the driver finds its modules: a builder of the user's own lies in one of them.
    """

    def __init__(self, builder: str, folders: Sequence[str] = ()) -> None:
        sys.path += [folder for folder in folders if folder not in sys.path]
        self._changed = threading.Condition()
        self._number = -1
        self._job: Job | None = None
        self._reports: list[EpochReport] = []
        self._notices: list[str] = []
        self._asking = False
        self._go_on = True
        self._outcome: Outcome | None = None
        if family_of(builder) == "torch":
            importlib.import_module("rayline.training.loop")
        # One thread for all trials: torch keeps its number of threads, and OpenMP its pool, by thread.
        threading.Thread(target=self._train_all, daemon=True).start()

    def ready(self) -> int:
        """Return the process id, once the worker is up."""
        return os.getpid()

    def step(self, job: Job | None, go_on: bool) -> News:
        """Take a job, or an answer to the last news; return the next news."""
        with self._changed:
            if job is not None:
                job = replace(job, folder=folder_of(job.folder))
                self._job, self._number, self._outcome = job, job.number, None
            self._go_on = go_on
            self._asking = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._asking or self._outcome is not None, timeout=HEARTBEAT_S)
            news = News(self._number, tuple(self._reports), self._asking, self._outcome, notices=tuple(self._notices))
            self._reports.clear()
            self._notices.clear()
            return news

    def _train_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._job is not None)
                job, self._job = self._job, None
                assert job is not None
            outcome = self._trained(job)
            with self._changed:
                self._outcome = outcome
                self._changed.notify_all()

    def _trained(self, job: Job) -> Outcome:
        try:
            data: TrainData = ray.get(job.data) if isinstance(job.data, ray.ObjectRef) else job.data
            if job.spec.train.alone:
                return self._alone(job, data)
            from rayline.training.trainer import train

            def on_epoch(report: EpochReport) -> None:
                self._tell(report)  # a group cannot be ended early, so the answer stays out

            return _outcome("finished", train(job.spec, data, job.folder, on_epoch))
        except BaseException as error:  # noqa: BLE001 - whatever a trial raises, it is the trial that fails
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / ERROR_FILE).write_text(traceback.format_exc(), encoding="utf-8")
            return Outcome("failed", {}, (), None, _reason(error))

    def _alone(self, job: Job, data: TrainData) -> Outcome:
        from rayline.training.families import fit

        ended: list[bool] = []

        def on_epoch(report: EpochReport) -> None:
            go_on = self._asked(report) if report.epoch in job.asks else self._tell(report)
            if not go_on and report.epoch < job.spec.train.epochs:
                ended.append(True)
                raise _Ended
            if job.until is not None and report.epoch >= job.until:
                raise _Ended

        place = Place(device=_device(job), threads=job.threads)
        context = TrainContext(job.spec, data, job.folder, on_epoch, place, notice=self._notice)
        try:
            return _outcome("finished", fit(context))
        except _Ended:
            return _outcome("stopped" if ended else "paused", context.result())

    def _tell(self, report: EpochReport) -> bool:
        with self._changed:
            self._reports.append(report)
            return self._go_on

    def _asked(self, report: EpochReport) -> bool:
        with self._changed:
            self._reports.append(report)
            self._asking = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._asking)
            return self._go_on

    def _notice(self, text: str) -> None:
        with self._changed:
            self._notices.append(text)


@dataclass
class _Seat:
    """A worker, up or still to come, and the trial that it has."""

    actor: Any
    up: bool = False
    number: int | None = None


class Pool:
    """A ``Crew`` of Ray actors.

    Workers that the cluster has no room for yet stay pending: on a cluster that scales by itself, that is how it learns
    to grow. Only workers that are up get trials, so that none waits for ever.

    Args:
        size: how many workers.
        cpus, gpus: that each takes.
        builder: what they will train.
    """

    def __init__(self, size: int, cpus: float, gpus: float, builder: str) -> None:
        # No GPU is not the same as 0 of them: Ray then leaves out the processes that it keeps ready.
        self._options = {"num_cpus": cpus, "num_gpus": gpus or None, "max_restarts": 0}
        self._builder = builder
        self._calls: dict[Any, _Seat] = {}
        self._idle: list[_Seat] = []
        self._waiting: dict[int, _Seat] = {}
        self._failed_starts = 0
        for _ in range(size):
            self._hire()

    def free(self) -> int:
        """Return how many workers are up and idle."""
        return len(self._idle)

    def submit(self, job: Job) -> None:
        """Give a job to an idle worker."""
        seat = self._idle.pop()
        seat.number = job.number
        self._calls[seat.actor.step.remote(job, True)] = seat

    def answer(self, number: int, go_on: bool) -> None:
        """Answer the worker of a trial."""
        seat = self._waiting.pop(number)
        self._calls[seat.actor.step.remote(None, go_on)] = seat

    def wait(self, seconds: float) -> Sequence[News]:
        """Return what the workers tell."""
        calls = list(self._calls)
        done, _ = ray.wait(calls, num_returns=1, timeout=seconds)
        if done and len(calls) > 1:
            done, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
        found = [self._heard(call) for call in done]
        return [news for news in found if news is not None]

    def close(self) -> None:
        """End all workers."""
        for seat in [*self._calls.values(), *self._idle, *self._waiting.values()]:
            ray.kill(seat.actor)
        self._calls.clear()
        self._idle.clear()
        self._waiting.clear()

    def _hire(self) -> None:
        actor = ray.remote(Worker).options(**self._options).remote(self._builder, tuple(sys.path))
        self._calls[actor.ready.remote()] = _Seat(actor)

    def _heard(self, call: Any) -> News | None:
        seat = self._calls.pop(call)
        try:
            news = ray.get(call)
        except RayError as error:
            return self._died(seat, error)
        if not seat.up:
            seat.up, self._failed_starts = True, 0
            self._idle.append(seat)
            return None
        assert isinstance(news, News)
        if news.outcome is not None:
            seat.number = None
            self._idle.append(seat)
        else:
            self._waiting[news.number] = seat
        return news

    def _died(self, seat: _Seat, error: RayError) -> News | None:
        if not seat.up:
            self._failed_starts += 1
            if self._failed_starts >= START_ATTEMPTS:
                raise ClusterError(f"no worker for trials could start: {_last_line(error)}") from error
        ray.kill(seat.actor)
        self._hire()
        return None if seat.number is None else News(seat.number, lost=_why(error))


def _outcome(status: Any, result: TrainResult) -> Outcome:
    return Outcome(status, dict(result.metrics), tuple(result.history), Path(result.checkpoint))


def _device(job: Job) -> str:
    if not ray.get_gpu_ids() or job.spec.train.use_gpu is False:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, RaylineError) else f"{type(error).__name__}: {error}"


def _why(error: RayError) -> str:
    text = str(error)
    if "running low on memory" in text or "memory pressure" in text:
        return "its worker process was ended because its node ran out of memory"
    if isinstance(error, RayActorError):
        return "its worker process was killed or its node was lost"
    return f"its worker failed: {_last_line(error)}"


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
