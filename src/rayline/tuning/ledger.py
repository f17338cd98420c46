"""Our own record of a Study, one JSON line for each thing that happened: what a resumed Study is rebuilt from.

A trial is written down before it starts (``suggested``) and again when it has ended (``ended``), in the order in which
the sampler learned of both. Population-based training adds ``paused``, ``moved`` and ``generation``; ``began`` opens
each attempt. What is written survives a killed driver at once, and a power cut after ``sync``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from rayline import storage
from rayline.training.spec import EpochReport

Status = Literal["finished", "stopped", "failed"]

_ATTEMPT, _SUGGESTED, _ENDED = "began", "suggested", "ended"


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration that was tried.

    Attributes:
        number: from 0, in the order in which the sampler suggested them.
        params: what differs from the base configuration, by dotted key.
        metrics: of its best epoch; empty where it failed before the first.
        status: ``finished``, ``stopped`` by the scheduler, or ``failed``.
        checkpoint: its best epoch's checkpoint, or None.
        moves: of population-based training: after which epoch it went on from which trial's checkpoint.
    """

    number: int
    params: dict[str, Any]
    metrics: dict[str, float]
    history: tuple[EpochReport, ...]
    status: Status
    checkpoint: Path | None
    error: str | None = None
    moves: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a ledger: what happened, to which trial (-1 for none), when (Unix seconds), and the rest of it."""

    kind: str
    number: int
    at: float
    values: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """A ledger that is open for more."""

    def __init__(self, file: Path) -> None:
        self._file = storage.refresh(file)
        self._past = events(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._output: IO[str] = file.open("a", encoding="utf-8")
        if not _at_line_start(file):
            self._output.write("\n")  # a killed writer left a line unfinished
        self._write(_ATTEMPT, -1)

    @property
    def past(self) -> tuple[Event, ...]:
        """Everything that earlier attempts wrote."""
        return self._past

    def suggested(self, number: int, params: Mapping[str, Any]) -> None:
        """Keep a trial that is about to start."""
        self._write(_SUGGESTED, number, params=dict(params))

    def ended(self, trial: Trial) -> None:
        """Keep a trial that has ended."""
        self._write(_ENDED, trial.number, **as_json(trial))

    def happened(self, kind: str, number: int, **values: Any) -> None:
        """Keep something else, as JSON-ready values."""
        self._write(kind, number, **values)

    def sync(self) -> None:
        """Wait until all of it is on disk; where it belongs to an object store, it goes there in the background."""
        os.fsync(self._output.fileno())
        storage.keep_soon(self._file)

    def close(self) -> None:
        """Write no more. Raises ``StorageError`` where the object store that it belongs to does not take it."""
        self._output.close()
        storage.keep_soon(self._file)
        storage.settle()

    def _write(self, kind: str, number: int, **values: Any) -> None:
        self._output.write(json.dumps({"event": kind, "number": number, "at": time.time(), **values}) + "\n")
        self._output.flush()


def events(file: Path) -> tuple[Event, ...]:
    """Return the lines of a ledger; one that a killed writer left unfinished is left out."""
    if not file.exists():
        return ()
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            raw = json.loads(line)
            event = Event(raw.pop("event"), raw.pop("number"), raw.pop("at"), raw)
            if event.kind == _ENDED:
                trial_of(event)
            found.append(event)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return tuple(found)


def read(file: Path) -> tuple[Trial, ...]:
    """Return the trials that have ended, in the order in which they did."""
    return ended_of(events(file))


def ended_of(past: Sequence[Event]) -> tuple[Trial, ...]:
    """Return the trials that have ended, each once."""
    found: dict[int, Trial] = {}
    for event in past:
        if event.kind == _ENDED:
            found.setdefault(event.number, trial_of(event))
    return tuple(found.values())


def seconds_of(past: Sequence[Event]) -> float:
    """Return for how long earlier attempts worked: of each, from its begin to the last that it wrote."""
    total, began, last = 0.0, 0.0, 0.0
    for event in past:
        if event.kind == _ATTEMPT:
            total, began = total + last - began, event.at
        last = event.at
    return total + last - began


def as_json(trial: Trial) -> dict[str, Any]:
    """Return a trial as JSON-ready values, but for its number."""
    return {
        "params": trial.params,
        "metrics": trial.metrics,
        "history": [[report.epoch, dict(report.metrics), report.at] for report in trial.history],
        "status": trial.status,
        "checkpoint": str(trial.checkpoint) if trial.checkpoint else None,
        "error": trial.error,
        "moves": [list(move) for move in trial.moves],
    }


def trial_of(event: Event) -> Trial:
    """Return the trial that an event holds. Raises ``KeyError`` or ``TypeError`` where it holds none."""
    raw = event.values
    return Trial(
        number=event.number,
        params=raw["params"],
        metrics=raw["metrics"],
        history=tuple(EpochReport(epoch, metrics, at) for epoch, metrics, at in raw["history"]),
        status=raw["status"],
        checkpoint=Path(raw["checkpoint"]) if raw["checkpoint"] else None,
        error=raw["error"],
        moves=tuple((epoch, source) for epoch, source in raw["moves"]),
    )


def _at_line_start(file: Path) -> bool:
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - 1))
        return content.read(1) in (b"", b"\n")
