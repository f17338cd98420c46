"""Behavioural tests: inputs of the test rows are changed, and answers must stay, or move in one direction.

After M. T. Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList" (2020): invariance and
directional expectation tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import BehaviourConfig, DirectionConfig, InvarianceConfig
from rayline.errors import ConfigError, DataError, shown, suggestion
from rayline.evaluation.gates import Judged, behaved

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.features.schemas.schema import Schema
    from rayline.features.transform import FittedFeatureSet
    from rayline.registry.predictor import Predictions, Predictor

MOST_ROWS = 10_000  # of the test part, evenly spaced through it
ROUNDING = 1e-6  # of a probability, or of the target's standard deviation: what single precision does to an answer


def check(tests: tuple[BehaviourConfig, ...], schema: Schema, inputs: tuple[str, ...]) -> None:
    """Refuse tests of what a model does not look at.

    Args:
        tests: from ``evaluate.behaviour``.
        schema: of the table.
        inputs: the raw columns that the features look at.

    Raises:
        ConfigError: a column is no input or no number, or a class is unknown; it names the nearest.
    """
    for place, test in enumerate(tests):
        where = f"evaluate.behaviour[{place}]"
        for column in test.changed:
            if column not in inputs:
                raise ConfigError(f"{where}: column '{column}' is no input of the model. {suggestion(column, inputs)}")
        if isinstance(test, DirectionConfig) and schema.column(test.column).kind != "numeric":
            kind = schema.column(test.column).kind
            raise ConfigError(
                f"{where}: column '{test.column}' is {kind}, and only a number can be raised. Use test: invariance."
            )
        _check_answer(where, test, schema)


def _check_answer(where: str, test: BehaviourConfig, schema: Schema) -> None:
    if test.label is not None and test.label not in schema.classes:
        known = suggestion(test.label, schema.classes) if schema.classes else "A regression has no classes."
        raise ConfigError(f"{where}: class '{test.label}' of '{schema.target}' is unknown. {known}")
    if isinstance(test, DirectionConfig) and schema.classes and test.label is None:
        raise ConfigError(
            f"{where}: which class of '{schema.target}' should move? Add label: {schema.classes[-1]}, or another of "
            f"{', '.join(schema.classes)}."
        )
    if isinstance(test, InvarianceConfig) and not schema.classes and test.within is None:
        raise ConfigError(f"{where}: by how much may '{schema.target}' change? Add within: NUMBER, in its own units.")


@dataclass(frozen=True, slots=True)
class _Moved:
    """Answers before and after: the rows that count, by how much each moved, and where what was asked holds."""

    rows: NDArray[np.int64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    holds: NDArray[np.bool_]
    excess: NDArray[np.float64]


def behave(predictor: Predictor, table: pa.Table, tests: tuple[BehaviourConfig, ...]) -> tuple[Judged, ...]:
    """Run behavioural tests.

    Args:
        predictor: of the bundle.
        table: raw test rows with the input columns; of very many only ``MOST_ROWS`` are tried.
        tests: what must hold.

    Raises:
        ConfigError: see ``check``; or a value of ``to`` is not of its column's type.
    """
    features = predictor.features
    check(tests, features.schema, features.input_columns)
    if not tests:
        return ()
    if table.num_rows > MOST_ROWS:
        table = table.take(np.linspace(0, table.num_rows - 1, MOST_ROWS).astype(np.int64))
    before = predictor.predict_table(table)
    return tuple(_tried(place, test, predictor, table, before) for place, test in enumerate(tests))


def _tried(place: int, test: BehaviourConfig, predictor: Predictor, table: pa.Table, before: Predictions) -> Judged:
    features = predictor.features
    changed, rows = _changed(place, test, table)
    try:
        after = predictor.predict_table(changed)
    except DataError as error:
        raise ConfigError(f"evaluate.behaviour[{place}]: the model does not take the changed rows: {error}") from error
    moved = (
        _direction(test, features, rows, before, after)
        if isinstance(test, DirectionConfig)
        else _invariance(test, features, rows, before, after)
    )
    held = int(np.count_nonzero(moved.holds))
    return behaved(
        test.name or _name(test),
        held,
        len(moved.rows),
        at_least=test.at_least,
        min_rows=test.min_rows,
        rule=_rule(test),
        worst=_worst(test, table, moved),
    )


def _changed(place: int, test: BehaviourConfig, table: pa.Table) -> tuple[pa.Table, NDArray[np.int64]]:
    """Return the table with its columns changed, and the rows that count."""
    rows = np.arange(table.num_rows)
    if isinstance(test, DirectionConfig):
        import pyarrow as pa
        import pyarrow.compute as pc

        column = table.column(test.column)
        rows = np.flatnonzero(column.is_valid().to_numpy())
        kind = column.type
        if not pa.types.is_floating(kind) and float(test.add).is_integer():
            raised = pc.add(column.cast(pa.int64()), int(test.add))
        else:
            raised = pc.add(column.cast(pa.float64()), test.add)
        return _with(table, test.column, raised), rows
    order = np.random.default_rng(place).permutation(table.num_rows)
    for name in test.columns:  # together, so that what belongs together stays so
        table = _with(table, name, table.column(name).take(order))
    for name, value in test.to.items():
        table = _with(table, name, _constant(place, name, value, table))
    return table, rows


def _constant(place: int, name: str, value: Any, table: pa.Table) -> pa.Array:
    import pyarrow as pa

    kind = table.column(name).type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    try:
        scalar = pa.scalar(value, pa.string()).cast(plain) if isinstance(value, str) else pa.scalar(value, plain)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ConfigError(
            f"evaluate.behaviour[{place}].to.{name} is {shown(value)}, and the column holds {plain}."
        ) from error
    return pa.array([scalar.as_py()] * table.num_rows, plain)


def _with(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def _direction(
    test: DirectionConfig,
    features: FittedFeatureSet,
    rows: NDArray[np.int64],
    before: Predictions,
    after: Predictions,
) -> _Moved:
    first, second = (_watched(features, each, test.label)[rows] for each in (before, after))
    gain = second - first if test.expect in ("higher", "not_lower") else first - second
    slack = max(test.within, _rounding(features))
    holds = gain > 0 if test.expect in ("higher", "lower") else gain >= -slack
    return _Moved(rows, first, second, holds, -gain)


def _invariance(
    test: InvarianceConfig,
    features: FittedFeatureSet,
    rows: NDArray[np.int64],
    before: Predictions,
    after: Predictions,
) -> _Moved:
    if features.task == "regression" or test.label is not None:
        first, second = (_watched(features, each, test.label)[rows] for each in (before, after))
    else:
        assert before.probabilities is not None
        assert after.probabilities is not None
        apart = np.abs(after.probabilities - before.probabilities)
        place = apart.argmax(axis=1)[:, np.newaxis]
        first, second = (
            np.take_along_axis(each, place, axis=1)[:, 0].astype(np.float64)
            for each in (before.probabilities, after.probabilities)
        )
    gap = np.abs(second - first)
    if test.within is None:
        holds = np.asarray(before.values == after.values)
        return _Moved(rows, first, second, holds, np.where(holds, 0.0, gap))
    return _Moved(rows, first, second, gap <= test.within + _rounding(features), gap)


def _watched(features: FittedFeatureSet, answers: Predictions, label: str | None) -> NDArray[np.float64]:
    if label is None:
        return np.asarray(answers.values, dtype=np.float64)
    assert answers.probabilities is not None
    return answers.probabilities[:, features.classes.index(label)].astype(np.float64)


def _rounding(features: FittedFeatureSet) -> float:
    return ROUNDING * (features.target_std if features.task == "regression" else 1.0)


def _name(test: BehaviourConfig) -> str:
    if isinstance(test, DirectionConfig):
        return f"direction of {test.column}"
    return f"invariance to {', '.join(test.changed)}"


def _rule(test: BehaviourConfig) -> str:
    answer = "the answer" if test.label is None else f"the probability of '{test.label}'"
    if isinstance(test, DirectionConfig):
        slack = f" by more than {test.within:g}" if test.within and test.expect.startswith("not") else ""
        return f"{answer} is {test.expect.replace('_', ' ')}{slack} where {test.column} {test.add:+g}:"
    changes = [f"{', '.join(test.columns)} dealt anew"] if test.columns else []
    changes += [f"{name} = {shown(value)}" for name, value in test.to.items()]
    stays = "the label stays" if test.within is None else f"{answer} changes by at most {test.within:g}"
    return f"{stays} with {' and '.join(changes)}:"


def _worst(test: BehaviourConfig, table: pa.Table, moved: _Moved) -> str:
    broken = np.flatnonzero(~moved.holds)
    if not len(broken):
        return ""
    place = int(broken[moved.excess[broken].argmax()])
    row = int(moved.rows[place])
    values = ", ".join(f"{name} = {shown(table.column(name)[row].as_py())}" for name in test.changed)
    return f"row {row} with {values}: {moved.before[place]:.4g} became {moved.after[place]:.4g}"
