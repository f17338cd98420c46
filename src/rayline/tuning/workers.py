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
from pathlib import Path
from typing import Any

import ray

from rayline.errors import RaylineError
from rayline.model import family_of
from rayline.training.context import Place, TrainContext
from rayline.training.priority import give_way
from rayline.training.spec import EpochReport, TrainData, TrainResult
from rayline.tuning.jobs import Job, News, Outcome

HEARTBEAT_S = 1.0
ERROR_FILE = "error.txt"


class _Ended(BaseException):
    """Ends a training from its own report; no handler of a user's loop should take it for an error."""


class Worker:
    """One worker process.

    Args:
        builder: tells what to load before the first trial comes.
        folders: where the driver finds its modules: a builder of the user's own lies in one of them.
        low: whether the operating system is to serve others first.
    """

    def __init__(self, builder: str, folders: Sequence[str] = (), low: bool = False) -> None:
        if low:
            give_way()
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


def _outcome(status: Any, result: TrainResult) -> Outcome:
    return Outcome(status, dict(result.metrics), tuple(result.history), Path(result.checkpoint))


def _device(job: Job) -> str:
    if not ray.get_gpu_ids() or job.spec.train.use_gpu is False:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, RaylineError) else f"{type(error).__name__}: {error}"
