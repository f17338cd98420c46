"""Which epochs have been told: one line each, written before the telling, so that none is ever told as another.

Checkpoints are not written for every epoch. Epochs that a killed process had told and not kept are trained again, and
what was first said of them stands: the tracking store knows by epoch, value and time that a point sent twice is one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rayline import storage
from rayline.training.spec import EpochReport, TrainSpec

FILE = "epochs.jsonl"
ALIKE = 1e-3
"""Relative difference of a metric up to which an epoch that is trained again counts as the same."""


def key_of(spec: TrainSpec) -> str:
    """Return what tells one training from another in the same folder."""
    return hashlib.sha256(repr((spec.model, spec.train, spec.task)).encode()).hexdigest()[:8]


def add(out: Path, key: str, report: EpochReport) -> None:
    """Add an epoch. Raises ``OSError``."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / FILE).open("a", encoding="utf-8") as file:
        file.write(_line(key, report))
    storage.keep_soon(out / FILE)


def after(out: Path, key: str, history: Sequence[EpochReport]) -> dict[int, EpochReport]:
    """Return what was told after a history, by epoch; nothing where what was told is not of this training.

    A line that a killed process has not finished is not told.
    """
    told = _read(out, key)
    if any(told.get(each.epoch, each).at != each.at for each in history):
        return {}
    return {epoch: report for epoch, report in told.items() if epoch > len(history)}


def restart(out: Path, key: str, history: Iterable[EpochReport]) -> None:
    """Write the record anew: half a line would spoil the one that is added to it."""
    out.mkdir(parents=True, exist_ok=True)
    draft = out / f".{FILE}"
    draft.write_text("".join(_line(key, each) for each in history), encoding="utf-8")
    draft.replace(out / FILE)
    storage.keep_soon(out / FILE)


def compare(first: EpochReport, again: EpochReport, notice: Callable[[str], None]) -> None:
    """Say where an epoch that was trained again gave other numbers than were first told of it."""
    for name, value in first.metrics.items():
        other = again.metrics.get(name, math.nan)
        if not math.isclose(value, other, rel_tol=ALIKE, abs_tol=1e-9):
            notice(
                f"epoch {first.epoch} was trained again after an interruption, and gave {name} {other:.6g} where "
                f"{value:.6g} had been told: what was told first stands"
            )
            return


def plain(report: EpochReport) -> dict[str, object]:
    """Return a report as JSON-ready values."""
    return {"epoch": report.epoch, "metrics": dict(report.metrics), "at": report.at}


def _line(key: str, report: EpochReport) -> str:
    return f"{json.dumps({'of': key, **plain(report)})}\n"


def _read(out: Path, key: str) -> dict[int, EpochReport]:
    try:
        lines = storage.refresh(out / FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    told: dict[int, EpochReport] = {}
    for line in lines:
        try:
            raw = json.loads(line)
            if raw["of"] == key:
                told.setdefault(raw["epoch"], EpochReport(raw["epoch"], raw["metrics"], raw["at"]))
        except (ValueError, KeyError, TypeError):
            continue
    return told
