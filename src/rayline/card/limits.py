"""What a model's data did not cover, found by looking: ranges, rare levels, gaps, and parts that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.evaluation.gates import Judgement
from rayline.features.reading import arrow_values

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.features.schemas.schema import Schema

RARE_ROWS = 50
MOST_NAMED = 8
OFTEN_MISSING = 0.2
DRIFT = 0.1  # of a population stability index, from where a distribution counts as moved
LEAST_SHARE = 1e-4


def limits(
    schema: Schema, reference: Mapping[str, Any], test: pa.Table, judgement: Judgement, most_drift: float = DRIFT
) -> tuple[str, ...]:
    """Return what the data says of where the model is not to be trusted, a sentence each.

    Args:
        schema: of the table.
        reference: statistics of the training part, as ``rayline.features.reference`` describes them.
        test: raw rows of the test part.
        judgement: whose slices had too few rows.
        most_drift: from which population stability index on a column is told.
    """
    columns = reference.get("columns", {})
    rows = int(reference.get("rows", 0))
    return (
        *_rare(columns, rows),
        *_missing(columns),
        *_moved(schema, reference, test, rows, most_drift),
        *_undecided(judgement),
    )


def _rare(columns: Mapping[str, Any], rows: int) -> Iterator[str]:
    for name, column in columns.items():
        levels: Mapping[str, float] = column.get("levels", {})
        few = {level: round(share * rows) for level, share in levels.items() if share * rows < RARE_ROWS}
        if not few or column.get("kind") == "text":
            continue
        if len(few) == len(levels) and len(few) > MOST_NAMED:
            yield f"{name}: each of its {len(few)} levels has fewer than {RARE_ROWS} training rows."
            continue
        named = [f"{level} ({_rows(count)})" for level, count in list(few.items())[:MOST_NAMED]]
        rest = f" and {len(few) - MOST_NAMED} more" if len(few) > MOST_NAMED else ""
        yield f"{name}: rare in the training part: {', '.join(named)}{rest}."


def _missing(columns: Mapping[str, Any]) -> Iterator[str]:
    for name, column in columns.items():
        share = column.get("missing", 0.0)
        if share >= OFTEN_MISSING:
            yield f"{name}: missing in {share:.0%} of the training rows."


def _moved(schema: Schema, reference: Mapping[str, Any], test: pa.Table, rows: int, most: float) -> Iterator[str]:
    """Tell columns whose values are spread otherwise in the test part, and how many rows lie beyond the range."""
    described = {**reference.get("columns", {}), schema.target: reference.get("target", {})}
    for name, column in described.items():
        if name not in test.column_names or not column:
            continue
        moved = stability(column, test.column(name), rows)
        if moved is not None and moved > most:
            what = "the target" if name == schema.target else name
            index = f"population stability index {moved:.2g}"
            yield f"{what}: spread otherwise in the test part than in training ({index})."
        beyond = _beyond(column, test.column(name)) if name != schema.target else 0.0
        if beyond >= 0.001:
            yield f"{name}: {beyond:.1%} of the test rows lie outside of the range of the training part."


def stability(column: Mapping[str, Any], values: pa.ChunkedArray, rows: int) -> float | None:
    """Return the population stability index of a column against the training part; None where there are no bins.

    ``sum((p - q) * ln(p / q))`` over the bins or levels (N. Siddiqi, "Credit Risk Scorecards", 2006), less what two
    samples of one distribution give by chance: ``(bins - 1) * (1 / n + 1 / m)``.
    """
    found = _shares(column, values)
    if found is None:
        return None
    before, after, count = found
    if not count or not rows:
        return None
    before, after = np.maximum(before, LEAST_SHARE), np.maximum(after, LEAST_SHARE)
    index = float(((after - before) * np.log(after / before)).sum())
    return index - (len(before) - 1) * (1 / rows + 1 / count)


def _shares(
    column: Mapping[str, Any], values: pa.ChunkedArray
) -> tuple[NDArray[np.float64], NDArray[np.float64], int] | None:
    kind = column["kind"]
    if "shares" in column and kind in ("numeric", "datetime"):
        present = _numbers(kind, values)
        places = np.searchsorted(np.asarray(column["edges"], dtype=np.float64), present, side="right")
        counts = np.bincount(places, minlength=len(column["shares"]))
        return np.asarray(column["shares"]), counts / max(len(present), 1), len(present)
    if kind == "categorical" and column.get("levels"):
        levels = list(column["levels"])
        read = arrow_values.levels(values)
        known = {text: place for place, text in enumerate(levels)}
        owner = np.array([known.get(text, len(levels)) for text in read.texts], dtype=np.int64)
        codes = owner[read.present[read.present >= 0]] if len(owner) else np.empty(0, dtype=np.int64)
        before = np.array([*column["levels"].values(), column.get("other", 0.0)])
        before = before / max(before.sum(), LEAST_SHARE)  # of the rows that have a level, as those of the test part
        return before, np.bincount(codes, minlength=len(before)) / max(len(codes), 1), len(codes)
    return None


def _beyond(column: Mapping[str, Any], values: pa.ChunkedArray) -> float:
    if column["kind"] not in ("numeric", "datetime") or "min" not in column:
        return 0.0
    present = _numbers(column["kind"], values)
    outside = np.count_nonzero((present < column["min"]) | (present > column["max"]))
    return float(outside) / max(len(present), 1)


def _numbers(kind: str, values: pa.ChunkedArray) -> NDArray[np.float64]:
    read = arrow_values.instants(values) if kind == "datetime" else arrow_values.numbers(values)
    return read.data[~(read.missing | read.wrong)].astype(np.float64)


def _undecided(judgement: Judgement) -> Iterator[str]:
    few = [each for each in judgement.gates if each.where and each.verdict == "inconclusive" and each.needed]
    for each in few[:MOST_NAMED]:
        yield f"{each.where}: {_rows(each.rows or 0)} of the test part decide nothing about its {each.what}."


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
