"""Our own record of a Study's trials: one JSON line each, appended and synced as a trial ends.

Ray Tune restored from a damaged state file runs one empty trial and reports success, so its word alone is not enough.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rayline.training.spec import EpochReport

Status = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration that was tried.

    Attributes:
        number: from 0, in the order in which the sampler suggested them.
        params: what differs from the base configuration, by dotted key.
        metrics: of its best epoch; empty where it failed before the first.
        status: ``finished``, ``stopped`` by the scheduler, or ``failed``.
        checkpoint: its best epoch's checkpoint, or None.
    """

    number: int
    params: dict[str, Any]
    metrics: dict[str, float]
    history: tuple[EpochReport, ...]
    status: Status
    checkpoint: Path | None
    error: str | None = None


def append(file: Path, trial: Trial) -> None:
    """Keep a trial that has ended, on a line of its own even where a killed writer left one unfinished."""
    line = json.dumps(
        {
            "number": trial.number,
            "params": trial.params,
            "metrics": trial.metrics,
            "history": [[report.epoch, dict(report.metrics)] for report in trial.history],
            "status": trial.status,
            "checkpoint": str(trial.checkpoint) if trial.checkpoint else None,
            "error": trial.error,
        }
    )
    with file.open("a", encoding="utf-8") as output:
        output.write(f"{line}\n" if _at_line_start(file) else f"\n{line}\n")
        output.flush()
        os.fsync(output.fileno())


def read(file: Path) -> tuple[Trial, ...]:
    """Return the trials that have ended; a line that a killed writer left unfinished is left out."""
    if not file.exists():
        return ()
    trials = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            trials.append(_trial(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            continue
    return tuple(trials)


def _at_line_start(file: Path) -> bool:
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - 1))
        return content.read(1) in (b"", b"\n")


def _trial(raw: Mapping[str, Any]) -> Trial:
    return Trial(
        number=raw["number"],
        params=raw["params"],
        metrics=raw["metrics"],
        history=tuple(EpochReport(epoch, metrics) for epoch, metrics in raw["history"]),
        status=raw["status"],
        checkpoint=Path(raw["checkpoint"]) if raw["checkpoint"] else None,
        error=raw["error"],
    )
