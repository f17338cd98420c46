"""The course of a Study: keep every worker busy, until the plan has nothing left. Knows neither Ray nor Optuna."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rayline.training.spec import EpochReport
from rayline.tuning.jobs import Crew, Job, News, Outcome, Plan

WAIT_S = 1.0
SAY_EVERY_S = 60.0


@dataclass
class Course:
    """One attempt at a Study.

    Attributes:
        max_failures: how often a trial whose worker died is started again.
        settled: called whenever what was heard has been taken in, before what follows from it is told.
        on_epoch: hears the last epoch of a trial with each news of it.
        on_wait: hears what it waits for, where no worker is to be had yet.
        stop: asked before each turn; true leaves the Study as it is.
    """

    crew: Crew
    plan: Plan
    max_failures: int
    settled: Callable[[], None] = lambda: None
    on_epoch: Callable[[int, EpochReport], None] = lambda number, report: None
    notice: Callable[[str], None] = lambda text: None
    on_wait: Callable[[str], None] = lambda text: None
    stop: Callable[[], bool] = lambda: False
    _jobs: dict[int, Job] = field(default_factory=dict, init=False)
    _again: list[int] = field(default_factory=list, init=False)
    _said: str = field(default="", init=False)
    _said_at: float = field(default=0.0, init=False)
    _deaths: dict[int, int] = field(default_factory=dict, init=False)

    def run(self) -> None:
        """Work until the plan is done."""
        while not self.stop():
            self._tell_wait(self.crew.aim(len(self._again) + self.plan.waiting))
            self._employ()
            self.settled()
            if self.plan.done and not self._again:
                return
            for news in self.crew.wait(WAIT_S):
                self._take(news)

    def _employ(self) -> None:
        while self.crew.free():
            job = self._jobs[self._again.pop(0)] if self._again else self.plan.next()
            if job is None:
                return
            self._jobs[job.number] = job
            self.crew.submit(job)

    def _tell_wait(self, text: str) -> None:
        """Say what is waited for: when that changes, and again now and then."""
        if text and (text != self._said or time.monotonic() - self._said_at > SAY_EVERY_S):
            self._said, self._said_at = text, time.monotonic()
            self.on_wait(text)

    def _take(self, news: News) -> None:
        for text in news.notices:
            self.notice(f"trial {news.number + 1}: {text}")
        if news.lost is not None:
            self._lost(news.number, news.lost)
            return
        if news.outcome is not None:
            self.plan.ended(news.number, news.outcome)
            return
        self.crew.answer(news.number, self.plan.reported(news.number, news.reports, news.asks))
        if news.reports:
            self.on_epoch(news.number, news.reports[-1])

    def _lost(self, number: int, why: str) -> None:
        deaths = self._deaths[number] = self._deaths.get(number, 0) + 1
        if deaths <= self.max_failures:
            self.notice(f"trial {number + 1}: {why}; it goes on from its last checkpoint")
            self._again.append(number)
            return
        times = "once" if deaths == 1 else f"{deaths} times"
        error = f"its worker died {times}, which is more than train.max_failures ({self.max_failures}) allows: {why}"
        self.plan.ended(number, Outcome("failed", {}, (), None, error))
