"""A version beside the champion on the same rows: what the gates are judged by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from rayline.config import EvaluateConfig, GateConfig, SliceConfig, Task
from rayline.config.gates import EVERY_SLICE
from rayline.errors import ConfigError, RaylineError, suggestion
from rayline.evaluation import gates as laws
from rayline.evaluation.gates import MIN_ROWS, Better, Judged, Sample
from rayline.evaluation.intervals import bootstrap, paired
from rayline.evaluation.scores import MAIN, Rows, better, score, scores_of
from rayline.evaluation.slices import Slice, named_slices

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.features.schemas.schema import Schema
    from rayline.features.transform import FittedFeatureSet
    from rayline.registry.predictor import Predictions, Predictor

MOST_RESAMPLES = 20_000
IN_THE_TAIL = 20  # resamples beyond a bound, at the least


@dataclass(frozen=True, slots=True)
class Answers:
    """What two models said to the same n rows.

    Attributes:
        task: what was answered.
        truth: as ``scores.score`` takes it.
        version: the answers of the version that is judged.
        champion: the champion's, its classes in the version's order; None where there is none or it cannot answer.
        why: why it cannot.
    """

    task: Task
    truth: NDArray[Any]
    version: Predictions
    champion: Predictions | None = None
    why: str = ""


def asked(config: EvaluateConfig, task: Task) -> tuple[GateConfig, ...]:
    """Return the gates of a configuration; where none are given, the default one on the task's main score."""
    if config.gates is not None:
        return config.gates
    return laws.default_gates(MAIN[task], better(MAIN[task]))


def check(config: EvaluateConfig, schema: Schema, columns: Iterable[str]) -> None:
    """Refuse gates that name what is not there.

    Args:
        config: whose gates.
        schema: of the table.
        columns: of the test part.

    Raises:
        ConfigError: a metric or a column is unknown; it names the nearest.
    """
    for place, gate in enumerate(config.gates or ()):
        where, known = f"evaluate.gates[{place}]", scores_of(schema.task)
        if gate.metric not in known:
            words = suggestion(gate.metric, known)
            raise ConfigError(f"{where}: metric '{gate.metric}' is unknown for a {schema.task} task. {words}")
        if gate.compare is not None and better(gate.metric) == "zero":
            raise ConfigError(f"{where}: '{gate.metric}' should be near zero, and is not compared: give at_most.")
        _check_slice(where, gate, tuple(columns))


def _check_slice(where: str, gate: GateConfig, columns: tuple[str, ...]) -> None:
    if gate.slice not in (None, EVERY_SLICE, *columns):
        assert gate.slice is not None
        raise ConfigError(f"{where}: column '{gate.slice}' is not in the test part. {suggestion(gate.slice, columns)}")


def truth_of(features: FittedFeatureSet, table: pa.Table) -> NDArray[Any]:
    """Return the truth of raw rows as ``scores.score`` takes it."""
    import pyarrow as pa

    if features.task != "regression":
        return features.encode_target(table)
    return np.asarray(table.column(features.schema.target).cast(pa.float64()).to_numpy(), dtype=np.float64)


def champions_answers(
    predictor: Predictor, table: pa.Table, task: Task, classes: tuple[str, ...]
) -> tuple[Predictions | None, str]:
    """Return what a champion says to rows, its classes in this order, or why it cannot say it."""
    features = predictor.features
    if features.task != task:
        return None, f"the champion answers a {features.task} task, and this version a {task} task"
    if sorted(features.classes) != sorted(classes):
        return None, f"the champion knows the classes {', '.join(features.classes)}, not {', '.join(classes)}"
    try:
        answers = predictor.predict_table(table)
    except RaylineError as error:
        return None, f"the champion cannot answer these rows: {error}"
    if not answers.finite.all():
        return None, "the champion's answer to some rows is not a finite number"
    return _in_order(answers, classes), ""


def _in_order(answers: Predictions, classes: tuple[str, ...]) -> Predictions:
    from rayline.registry.predictor import Predictions

    if answers.labels is None or answers.labels == classes or answers.probabilities is None:
        return answers
    own = answers.labels
    place = np.array([classes.index(label) for label in own])
    chances = answers.probabilities[:, [own.index(label) for label in classes]]
    return Predictions(place[answers.values], chances, classes)


def judged(config: EvaluateConfig, answers: Answers, table: pa.Table, baseline: str) -> tuple[Judged, ...]:
    """Judge all gates of a configuration.

    Args:
        config: whose gates, slices and resamples.
        answers: of both models to the rows of ``table``.
        table: raw rows, which slices are taken of.
        baseline: what the champion is called; empty where there is none.
    """
    gates = asked(config, answers.task)
    return tuple(each for gate in gates for each in _judged_gate(gate, config, answers, table, baseline))


def _judged_gate(
    gate: GateConfig, config: EvaluateConfig, answers: Answers, table: pa.Table, baseline: str
) -> list[Judged]:
    way: Better = better(gate.metric)
    if gate.slice is None:
        sample = sample_of(gate, answers, None, "", 1, config.bootstrap, bool(baseline))
        return [laws.judge(gate, way, sample, baseline=baseline, min_rows=gate.min_rows or MIN_ROWS)]
    least = gate.min_rows or config.min_slice_rows
    slices = slices_of(gate, config, table)
    enough = max(sum(len(each) >= least for each in slices), 1)
    return [
        laws.judge(
            gate,
            way,
            sample_of(
                gate, answers, each.rows, each.name.replace(" = ", "="), enough, config.bootstrap, bool(baseline)
            ),
            baseline=baseline,
            min_rows=least,
        )
        for each in slices
    ]


def slices_of(gate: GateConfig, config: EvaluateConfig, table: pa.Table) -> tuple[Slice, ...]:
    """Return the slices that a gate is judged in, small ones too: these are inconclusive.

    Raises:
        ConfigError: the column cannot be divided.
    """
    if gate.slice == EVERY_SLICE:
        return named_slices(table, replace(config, min_slice_rows=1))
    named = [each for each in config.slices if each.column == gate.slice] or [SliceConfig(column=str(gate.slice))]
    found = named_slices(table, replace(config, slices=tuple(named), min_slice_rows=1))
    if gate.value is None:
        return found
    names = {each.name: each.name.removeprefix(f"{gate.slice} = ") for each in found}
    chosen = tuple(each for each in found if gate.value in (each.name, names[each.name]))
    if not chosen:
        # No row of it is in the test part: it decides nothing, and says so.
        return (Slice(f"{gate.slice} = {gate.value}", str(gate.slice), np.empty(0, dtype=np.int64)),)
    return chosen


def sample_of(
    gate: GateConfig, answers: Answers, rows: Rows | None, where: str, among: int, resamples: int, compares: bool
) -> Sample:
    """Measure a gate's metric on some rows, with the bounds that its confidence asks for.

    The bounds do not depend on the order of the rows.

    Args:
        gate: what is measured.
        answers: of both models.
        rows: which rows; None means all.
        where: what they are called.
        among: how many slices share the gate's error rate.
        resamples: at least so many.
        compares: whether there is a champion.
    """
    count = len(answers.truth) if rows is None else len(rows)
    if not count or (gate.compare is not None and not compares):
        return Sample(where, count, None)
    rows = _ordered(answers, rows)
    name, task, truth = gate.metric, answers.task, answers.truth
    value = score(name, task, truth, answers.version, rows)
    tail = (1 - gate.confidence) / among
    resamples = max(resamples, min(math.ceil(IN_THE_TAIL / tail), MOST_RESAMPLES))
    if gate.compare is None:
        found = bootstrap([name], task, truth, answers.version, rows, resamples=resamples, confidence=1 - 2 * tail)
        if name not in found:
            return Sample(where, count, None)
        return Sample(where, count, value, None, found[name].low, found[name].high)
    if answers.champion is None:
        return Sample(where, count, value, None, why=answers.why)
    apart = paired(name, task, truth, answers.version, answers.champion, rows, resamples=resamples, confidence=1 - tail)
    champion = score(name, task, truth, answers.champion, rows)
    return Sample(where, count, value, champion, apart.low, apart.high)


def _ordered(answers: Answers, rows: Rows | None) -> Rows:
    """Return rows in an order that only their content decides, so that resamples are the same whatever it was."""
    chosen = np.arange(len(answers.truth)) if rows is None else rows
    keys: list[NDArray[Any]] = [answers.truth[chosen]]
    for each in (answers.version, answers.champion):
        if each is not None:
            keys.append(each.values[chosen])
            if each.probabilities is not None:
                keys += list(each.probabilities[chosen].T)
    return np.asarray(chosen[np.lexsort(keys)], dtype=np.int64)
