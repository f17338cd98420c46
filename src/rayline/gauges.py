"""Training and Studies as gauges: how far, how fast, how good. See ``meters`` for what telling them costs: nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rayline import meters

if TYPE_CHECKING:
    from rayline.training.spec import EpochReport
    from rayline.tuning.study import Trial

STATES = ("running", "finished", "stopped", "failed")
MOST_METRICS = 20


class TrainProgress:
    """Shows one training of a project.

    Args:
        project: its name: a project has one training at a time, so that its series are no more with each run.
        rows: of the training part, each of which an epoch goes through once.
        epochs: at most.
    """

    def __init__(self, project: str, rows: int, epochs: int) -> None:
        self._project = project
        self._rows = rows
        self._last: float | None = None
        meters.show("rayline_train_epochs", epochs, project=project)
        meters.show("rayline_train_epoch", 0, project=project)

    def epoch(self, report: EpochReport) -> None:
        """Show an epoch. Those of an earlier attempt, told again at once, tell no speed."""
        project = self._project
        meters.show("rayline_train_epoch", report.epoch, project=project)
        for metric, value in list(report.metrics.items())[:MOST_METRICS]:
            meters.show("rayline_train_metric", value, project=project, metric=metric)
        now = time.time()
        fresh = now - report.at < 1.0  # an epoch of an earlier attempt carries the time of then
        if fresh and self._last is not None and report.at > self._last:
            meters.show("rayline_train_rows_per_second", self._rows / (report.at - self._last), project=project)
        self._last = report.at if fresh else None

    def ended(self) -> None:
        """Let its speed end: nothing is trained any more."""
        meters.hide("rayline_train_rows_per_second", project=self._project)


class StudyProgress:
    """Shows the Study of a project.

    Args:
        project: its name.
        trials: at most.
        objectives: metric to ``min`` or ``max``.
    """

    def __init__(self, project: str, trials: int, objectives: Mapping[str, str]) -> None:
        self._project = project
        self._signs = {metric: 1 if direction == "min" else -1 for metric, direction in objectives.items()}
        self._ended: Counter[str] = Counter()
        self._best: dict[str, float] = {}
        meters.show("rayline_study_planned_trials", trials, project=project)
        for state in STATES:
            meters.show("rayline_study_trials", 0, project=project, state=state)

    def trial(self, trial: Trial) -> None:
        """Show a trial that has ended."""
        self._ended[trial.status] += 1
        count = self._ended[trial.status]
        meters.show("rayline_study_trials", count, project=self._project, state=str(trial.status))
        for metric, sign in self._signs.items():
            value = trial.metrics.get(metric)
            if value is not None and (metric not in self._best or sign * value < sign * self._best[metric]):
                self._best[metric] = value
                meters.show("rayline_study_best", value, project=self._project, metric=metric)

    def running(self, trials: Sequence[int]) -> None:
        """Show which trials have a worker, by number."""
        meters.show("rayline_study_trials", len(trials), project=self._project, state="running")
