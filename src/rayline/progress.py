"""How far a flow is and when it will be done, told in lines that a job's follower can read.

A job's log is the one thing of it that its server hands out while it works. So within a Ray job each change is also one
line of JSON in that log, after a mark; ``rayline jobs`` needs nothing else to tell stage, progress and remaining time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rayline import storage
from rayline.events import Epoch, Event, Finished, Listener, Resumed, RolloutMoved, Started, TrialEnded, TrialEpoch

MARK = "@rayline "
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""What Ray gives to the driver of a submitted job, and to no other process."""
TIMINGS = "timings.json"
SHORTEST_PAUSE_S = 1.0
"""Between two lines about epochs."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a flow is.

    Attributes:
        project: its name.
        stage: the step at work, or ``done``.
        step: which of ``steps`` it is, from 1.
        done: how many of ``of`` units the step has behind it; both 0 where it has no units.
        unit: what is counted: ``epoch``, ``trial`` or ``% of traffic``.
        stage_eta_s: seconds until the step ends, as far as earlier steps or units tell; None where nothing does.
        eta_s: the same of the whole flow.
        cached: steps that did not run again.
        saved_s: seconds that those took when they ran.
        text: one line about the latest, for people.
    """

    project: str
    stage: str
    step: int
    steps: int
    done: int = 0
    of: int = 0
    unit: str = ""
    stage_eta_s: float | None = None
    eta_s: float | None = None
    cached: tuple[str, ...] = ()
    saved_s: float = 0.0
    text: str = ""

    def line(self) -> str:
        """Return it as one line of a log."""
        return MARK + json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)


def read_line(text: str) -> Progress | None:
    """Return what one line of a log tells, or None where it is an ordinary one."""
    if not text.startswith(MARK):
        return None
    try:
        values = json.loads(text[len(MARK) :])
        return Progress(**{**values, "cached": tuple(values.get("cached", ()))})
    except (ValueError, TypeError, AttributeError):
        return None


def latest(log: str) -> Progress | None:
    """Return the last progress that a log tells, or None where it tells none."""
    for text in reversed(log.splitlines()):
        found = read_line(text)
        if found is not None:
            return found
    return None


@dataclass
class Course:
    """Follows one flow by its events. It has no clock: ``now`` is given in seconds.

    Attributes:
        steps: in order.
        past: seconds that each step took the last time that it ran.
    """

    project: str
    steps: Sequence[str]
    past: Mapping[str, float]
    took: dict[str, float] = field(default_factory=dict)
    _stage: str = ""
    _began: float = 0.0
    _done: int = 0
    _of: int = 0
    _unit: str = ""
    _before: int = 0
    _text: str = ""
    _cached: dict[str, float] = field(default_factory=dict)

    def hear(self, event: Event, now: float) -> bool:
        """Take an event in; tell whether it changed anything that is worth a line at once."""
        match event:
            case Started(step):
                self._enter(step, now)
            case Finished(step, seconds, cached, summary):
                self._enter(step, now)
                self._text = summary
                if cached:
                    self._cached[step] = seconds
                else:
                    self.took[step] = seconds
            case Resumed(_, after, of, what):
                self._count(after, of, what)
                self._before = after
            case Epoch(number, of, _):
                self._count(number, of, "epoch")
                return number == of
            case TrialEnded(_, of, _, _, score):
                self._count(self._done + 1, of, "trial")
                self._text = score
            case RolloutMoved(_, _, _, weight, message):
                self._count(weight, 100, "% of traffic")
                self._text = message
            case TrialEpoch():
                return False
            case _:
                return False
        return True

    def _enter(self, step: str, now: float) -> None:
        if step != self._stage:
            self._stage, self._began = step, now
            self._done = self._of = self._before = 0
            self._unit = self._text = ""

    def _count(self, done: int, of: int, unit: str) -> None:
        self._done, self._of, self._unit = done, of, unit

    def progress(self, now: float) -> Progress:
        """Return how far the flow is."""
        place = self.steps.index(self._stage) + 1 if self._stage in self.steps else 0
        own = self._stage_eta(now)
        rest = [self.past.get(step) for step in self.steps[place:]]
        known = [each for each in rest if each is not None]
        return Progress(
            self.project,
            self._stage,
            place,
            len(self.steps),
            self._done,
            self._of,
            self._unit,
            own,
            round(own + sum(known), 1) if own is not None and len(known) == len(rest) else None,
            tuple(self._cached),
            round(sum(self._cached.values()), 1),
            self._text,
        )

    def _stage_eta(self, now: float) -> float | None:
        """Return what is left of the step: by the units that it has done, else by how long it took the last time."""
        if self._stage in self.took or self._stage in self._cached:
            return 0.0
        elapsed = now - self._began
        counted = self._done - self._before
        if self._of and counted > 0 and self._unit != "% of traffic":
            return round(elapsed / counted * max(self._of - self._done, 0), 1)
        before = self.past.get(self._stage)
        return round(max(before - elapsed, 0.0), 1) if before is not None else None

    def ended(self) -> Progress:
        """Return that the flow has come to its end."""
        count, saved = len(self.steps), round(sum(self._cached.values()), 1)
        return Progress(self.project, "done", count, count, 0, 0, "", 0.0, 0.0, tuple(self._cached), saved, self._text)


class Reporter:
    """A listener that hands each event on, and within a Ray job writes lines of progress to its log."""

    def __init__(
        self,
        listener: Listener,
        course: Course,
        file: Path,
        write: Callable[[str], None] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        self._course = course
        self._file = file
        self._write = write
        self._clock = clock
        self._last = float("-inf")

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        now = self._clock()
        worth = self._course.hear(event, now)
        self._listener(event)
        if isinstance(event, Finished) and not event.cached:
            self._keep()
        if self._write is None or not (worth or (_counts(event) and now - self._last >= SHORTEST_PAUSE_S)):
            return
        self._last = now
        self._write(self._course.progress(now).line())

    def ended(self) -> None:
        """Tell that the flow has come to its end."""
        if self._write is not None:
            self._write(self._course.ended().line())

    def _keep(self) -> None:
        """Keep how long steps took, for the next run's estimate. It is worth no failure."""
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft = self._file.with_suffix(f".{os.getpid()}.draft")
            draft.write_text(json.dumps({**self._course.past, **self._course.took}), encoding="utf-8")
            draft.replace(self._file)
            storage.keep(self._file)


def reporter(listener: Listener, project: str, steps: Iterable[str], folder: Path) -> Reporter:
    """Return a listener that hands events on to another one and tells how far the flow is.

    Args:
        listener: hears every event.
        project: its name.
        steps: in order.
        folder: where the project's finished steps are kept, and with them how long each took.
    """
    file = folder / TIMINGS
    course = Course(project, tuple(steps), _past(file))
    return Reporter(listener, course, file, _print if in_job() else None)


def in_job(environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether this process is the driver of a submitted job."""
    given = (os.environ if environment is None else environment).get(JOB_VARIABLE, "")
    try:
        metadata: Any = json.loads(given)["metadata"]
        return "job_submission_id" in metadata
    except (ValueError, KeyError, TypeError):
        return False


def _past(file: Path) -> dict[str, float]:
    """Return how long steps took: as the last run told, else as the records of finished steps do."""
    try:
        found = json.loads(storage.fetch(file).read_text(encoding="utf-8"))
        return {str(step): float(seconds) for step, seconds in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return _recorded(file.parent)


def _recorded(folder: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for file in folder.glob("*-*.json"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            record = json.loads(file.read_text(encoding="utf-8"))
            found[str(record["step"])] = float(record["seconds"])
    return found


def _counts(event: Event) -> bool:
    return isinstance(event, Epoch)


def _print(line: str) -> None:
    print(line, flush=True)
