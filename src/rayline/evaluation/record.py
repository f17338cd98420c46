"""An evaluation as plain values: ``evaluation.json`` and ``slices.csv``, for programs.

``evaluation.json`` is one object; what is undefined is null:

- ``format``: 1. ``task``, ``rows``, ``classes``, ``confidence`` (of every interval).
- ``scores``: by name ``{"value", "low", "high", "better", "unit"}``; ``better`` is min, max or zero, and ``unit``
  share, number or target.
- ``slices``: a list of ``{"name", "column", "rows", "scores", "found"}``; ``scores`` as above without the last two,
  ``found`` null for a named slice, else ``{"loss", "rest", "effect", "chance"}``: the mean loss there and elsewhere,
  the difference in pooled standard deviations, and the corrected chance of the test.
- ``calibration``: ``{"what", "error", "largest", "bins"}``, each bin ``{"least", "most", "said", "so", "low", "high",
  "rows"}``; or null.
- ``threshold``: ``{"rule", "value", "rows", "at_half", "at_value", "cost_at_half", "cost_at_value"}``, or null.
- ``infrastructure``: ``{"ok", "failure", "seconds", "one", "batch", "memory_mb", "loaded_mb", "size_mb", "verdicts"}``,
  each latency ``{"rows", "p50_ms", "p99_ms"}`` and each verdict ``{"quantity", "value", "limit", "ok"}``; or null.

``slices.csv`` has a line for each slice and score: ``slice,column,rows,found,effect,chance,score,value,low,high``.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rayline.evaluation.infrastructure import Infrastructure
from rayline.evaluation.intervals import Interval
from rayline.evaluation.metrics import Evaluation, SliceScores
from rayline.evaluation.scores import MAIN, better, printed, unit

FORMAT = 1
CSV_COLUMNS = ("slice", "column", "rows", "found", "effect", "chance", "score", "value", "low", "high")


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as the module's head describes it, JSON-ready."""
    scores = _scores(evaluation.intervals)
    values = {
        "format": FORMAT,
        "task": evaluation.task,
        "rows": evaluation.rows,
        "classes": list(evaluation.classes),
        "confidence": evaluation.confidence,
        "scores": {name: {**each, "better": better(name), "unit": unit(name)} for name, each in scores.items()},
        "slices": [_slice(each) for each in evaluation.slices],
        "calibration": evaluation.calibration and asdict(evaluation.calibration),
        "threshold": evaluation.threshold and asdict(evaluation.threshold),
        "infrastructure": evaluation.infrastructure and _infrastructure(evaluation.infrastructure),
    }
    found: dict[str, Any] = _finite(values)
    return found


def slices_csv(evaluation: Evaluation) -> str:
    """Return the scores of each slice as CSV, one line for each slice and score."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for each in evaluation.slices:
        worst = each.worst
        facts = (each.slice.name, each.slice.column, len(each.slice), worst is not None)
        size = (worst.effect, worst.chance) if worst is not None else ("", "")
        for name, interval in each.scores.items():
            bounds = ["" if math.isnan(bound) else bound for bound in (interval.value, interval.low, interval.high)]
            writer.writerow((*facts, *size, name, *bounds))
    return text.getvalue()


def notices(evaluation: Evaluation) -> list[str]:
    """Return what people should know at once: a bundle that failed its trial, limits that do not hold."""
    found = evaluation.infrastructure
    if found is None or found.ok:
        return []
    if found.failure:
        return [f"the bundle does not serve in a process of its own: {found.failure}"]
    return [f"beyond its limit: {each.message}" for each in found.verdicts if not each.ok]


def line(values: Mapping[str, Any]) -> str:
    """Return the one line for people of an evaluation's plain values: the main score, and the worst slice of all."""
    name = main_score(values)
    said = f"{name} {bounds(name, values['scores'][name])} on {values['rows']:,} test rows"
    found = [each for each in values["slices"] if each["found"]]
    if not found:
        return said
    worst = found[0]
    there = f" ({name} {printed(name, worst['scores'][name]['value'])})" if name in worst["scores"] else ""
    return f"{said}; worst slice {worst['name']}{there}"


def main_score(values: Mapping[str, Any]) -> str:
    """Return the score that stands for a model: the task's main one, else the first that is defined."""
    scores = values["scores"]
    main = MAIN[values["task"]]
    return main if main in scores else str(next(iter(scores)))


def bounds(name: str, each: Mapping[str, float | None]) -> str:
    """Return a score with its interval for people."""
    value, low, high = (
        printed(name, math.nan if (at := each[key]) is None else at) for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def _scores(intervals: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: asdict(interval) for name, interval in intervals.items()}


def _slice(each: SliceScores) -> dict[str, Any]:
    found = each.worst and {name: getattr(each.worst, name) for name in ("loss", "rest", "effect", "chance")}
    return {
        "name": each.slice.name,
        "column": each.slice.column,
        "rows": len(each.slice),
        "scores": _scores(each.scores),
        "found": found,
    }


def _infrastructure(found: Infrastructure) -> dict[str, Any]:
    verdicts = [{**asdict(each), "ok": each.ok} for each in found.verdicts]
    return {"ok": found.ok, **asdict(found), "verdicts": verdicts}


def _finite(value: Any) -> Any:
    """Return JSON-ready values with null for what is no finite number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
