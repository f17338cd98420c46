"""The plan of a Study in which every trial stands for itself: suggested by a sampler, perhaps ended by a scheduler."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rayline.errors import RaylineError
from rayline.training.spec import EpochReport
from rayline.tuning.job_maker import JobMaker
from rayline.tuning.jobs import Job, Outcome
from rayline.tuning.ledger import Event, Ledger, Status, Trial, ended_of, seconds_of
from rayline.tuning.limits import Limits, Stopwatch

if TYPE_CHECKING:
    from rayline.tuning.samplers import Suggester

STATUSES: dict[str, Status] = {"finished": "finished", "stopped": "stopped", "failed": "failed"}


@dataclass
class Search:
    """Asks the sampler, keeps the ledger, and tells the sampler; see ``rayline.tuning.jobs.Plan``.

    What earlier attempts wrote is told to the sampler in the order in which it happened. Trials that they began and did
    not end come first, with the same number and parameters.

    Attributes:
        metric: what the limits look at.
        on_trial: hears each trial that has ended, those of earlier attempts too.
        ended_by: why no further trial starts; None while one may.
    """

    suggester: Suggester
    jobs: JobMaker
    ledger: Ledger
    limits: Limits
    metric: str
    on_trial: Callable[[Trial], None] = lambda trial: None
    ended_by: str | None = field(default=None, init=False)
    _params: dict[int, dict[str, Any]] = field(default_factory=dict, init=False)
    _running: set[int] = field(default_factory=set, init=False)
    _again: deque[int] = field(default_factory=deque, init=False)
    _seen: dict[int, int] = field(default_factory=dict, init=False)
    _stopping: set[int] = field(default_factory=set, init=False)
    _values: list[float | None] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        past = self.ledger.past
        self._watch = Stopwatch(seconds_of(past))
        ended = {trial.number: trial for trial in ended_of(past)}
        for event in past:
            self._replay(event, ended)
        self._again.extend(sorted(set(self._params) - set(ended)))

    @property
    def done(self) -> bool:
        """Whether nothing runs and nothing more is to start."""
        return not self._running and not self._again and self._over() is not None

    @property
    def waiting(self) -> int:
        """How many trials could start now."""
        if self._over() is not None:
            return len(self._again)
        most = self.limits.trials if self.suggester.size is None else min(self.limits.trials, self.suggester.size)
        return len(self._again) + max(0, most - self.suggester.next_number)

    def next(self) -> Job | None:
        """Return the next trial's job: one that an earlier attempt began, else a new one."""
        while True:
            if self._again and not self._target_met():
                number = self._again.popleft()
            elif self._over() is None:
                number = self._suggested()
                shutil.rmtree(self.jobs.folder_of(number), ignore_errors=True)  # of a trial that the ledger lost
            else:
                self._again.clear()
                return None
            self._running.add(number)
            try:
                return self.jobs.job(number, self._params[number])
            except RaylineError as error:
                self.ended(number, Outcome("failed", {}, (), None, str(error)))

    def reported(self, number: int, reports: Sequence[EpochReport], asks: bool) -> bool:
        """Tell the scheduler; where the worker asks, its word decides whether the trial goes on."""
        pruned = False
        for report in reports:
            if report.epoch > self._seen.get(number, 0):  # a trial that was started again tells its epochs again
                self._seen[number] = report.epoch
                pruned = self.suggester.report(number, report)
        if asks and pruned:
            self._stopping.add(number)
        return number not in self._stopping and not self._target_met()

    def ended(self, number: int, outcome: Outcome) -> None:
        """Keep how a trial ended, and tell the sampler."""
        outcome = _measured(outcome, self.suggester.metrics)
        trial = Trial(
            number=number,
            params=self._params[number],
            metrics=outcome.metrics,
            history=outcome.history,
            status=STATUSES[outcome.status],
            checkpoint=outcome.checkpoint,
            error=outcome.error,
        )
        self.reported(number, trial.history, False)
        self._running.discard(number)
        self.ledger.ended(trial)
        self.suggester.tell(trial)
        self._values.append(trial.metrics.get(self.metric))
        self.on_trial(trial)

    def _replay(self, event: Event, ended: dict[int, Trial]) -> None:
        if event.kind not in ("suggested", "ended"):
            return
        number = event.number
        while number not in self._params:  # a line that was lost in between: its trial is suggested anew
            mine = self.suggester.next_number == number
            at, params = self.suggester.ask(event.values["params"] if mine else None)
            self._params[at] = params
        if event.kind == "ended" and ended.get(number) is not None:
            trial = ended[number]
            self.suggester.replay(trial)
            self._values.append(trial.metrics.get(self.metric))
            self.on_trial(trial)

    def _suggested(self) -> int:
        number, params = self.suggester.ask()
        self._params[number] = params
        self.ledger.suggested(number, params)
        return number

    def _over(self) -> str | None:
        if self.ended_by is None:
            self.ended_by = self._reached()
        return self.ended_by

    def _reached(self) -> str | None:
        if self.suggester.next_number >= self.limits.trials:
            return f"all {self.limits.trials} trials are done"
        if self.suggester.size is not None and self.suggester.next_number >= self.suggester.size:
            return f"all {self.suggester.size} combinations of the grid are done"
        return self.limits.reached(self._values, self._watch.seconds())

    def _target_met(self) -> bool:
        return self.limits.meets_target(self._values)


def _measured(outcome: Outcome, metrics: Sequence[str]) -> Outcome:
    """Return an outcome as failed where it has not measured what the Study compares."""
    missing = [name for name in metrics if name not in outcome.metrics]
    if outcome.status == "failed" or not missing:
        return outcome
    error = f"its epochs report no '{missing[0]}', which tune.objectives names"
    return Outcome("failed", {}, outcome.history, None, error)
