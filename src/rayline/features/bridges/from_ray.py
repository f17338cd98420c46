"""Fitted Ray Data preprocessors as fitted features, from the statistics that they keep.

Each is restated as Ray 2.60 applies it; the tests compare the outputs on Ray itself. Ray is not imported here: what
comes in has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rayline.config import Task
from rayline.errors import ConfigError
from rayline.features.bridges.assembling import Doubles, Member, OfNumbers, assembled, lookup
from rayline.features.kinds.function import function_column
from rayline.features.kinds.inputs import Input
from rayline.features.kinds.lookup import Numbers
from rayline.features.kinds.seam import FittedColumn
from rayline.features.kinds.sklearn import means_of
from rayline.features.recorded import record
from rayline.features.transform import FittedFeatureSet

if TYPE_CHECKING:
    import pyarrow as pa

Step = Callable[[Any], Any]

SMALLEST = 1e-8  # ``_EPSILON`` of ray.data.preprocessors.scaler: a smaller spread counts as 1


@dataclass(frozen=True, slots=True)
class _Column:
    """What has become of a raw column so far: steps over its numbers, or a table of its levels.

    Attributes:
        filled: what stood for missing values before the first step, or None.
    """

    source: str
    steps: tuple[Step, ...] = ()
    filled: Any = None
    table: Mapping[Any, Numbers] | None = None
    unknown: Numbers | None = None
    suffixes: tuple[str, ...] = ("",)


@dataclass(slots=True)
class _Stages:
    """The columns after the stages so far, in the order in which they were touched."""

    columns: dict[str, _Column] = field(default_factory=dict)
    order: tuple[str, ...] | None = None

    def column(self, name: str) -> _Column:
        return self.columns.get(name, _Column(name))


def from_ray(fitted: Any, table: pa.Table, target: str, *, task: Literal["auto"] | Task = "auto") -> FittedFeatureSet:
    """Return the features that a fitted Ray Data preprocessor, or a ``Chain`` of them, is.

    The outputs are those of a last ``Concatenator`` in its order, or else every column that a preprocessor made. A null
    that Ray would pass on becomes the output's mean over ``table``; a level that Ray would make null is refused.

    Args:
        fitted: fitted ``ray.data.preprocessors``.
        table: rows such as it was fitted on, with the target: they give the schema.
        target: the target column.
        task: inferred from the target where ``auto``.

    Raises:
        ConfigError: a preprocessor is not known here; the message names it and what is known.
        SchemaError, DataError: the table or its target does not fit.
    """
    stages = _Stages()
    for stage in _chain(fitted):
        name = type(stage).__name__
        if name not in _STAGES or not type(stage).__module__.startswith("ray."):
            raise ConfigError(
                f"Ray's preprocessor {name} cannot be taken in. Known: {', '.join(sorted((*_STAGES, 'Chain')))}. Leave "
                "it out and declare its columns here."
            )
        if stages.order is not None:
            raise ConfigError(f"{name} after a Concatenator cannot be taken in: put the Concatenator last.")
        _STAGES[name](stage, stages)
    chosen = tuple(stages.columns) if stages.order is None else stages.order
    return assembled([_member(name, stages.column(name)) for name in chosen], table, target, task)


def _chain(fitted: Any) -> list[Any]:
    if type(fitted).__name__ == "Chain":
        return [stage for each in fitted.preprocessors for stage in _chain(each)]
    return [fitted]


def _member(name: str, column: _Column) -> Member:
    if column.table is not None:
        missing = None if column.filled is None else column.table.get(column.filled, column.unknown)
        kept = {level: numbers for level, numbers in column.table.items() if all(np.isfinite(numbers))}
        unknown = column.unknown if column.unknown is not None and all(np.isfinite(column.unknown)) else None
        return lookup(name, column.source, column.suffixes, kept, unknown, missing)

    def make(inputs: tuple[Input, ...], rows: Doubles) -> FittedColumn:
        recorded = record(_composed(_all_steps(column)), 1, f"Ray's preprocessors of '{name}'")
        fills = means_of(np.column_stack(recorded.plan.many([rows[:, 0]])))
        return function_column(name, "ray.data.preprocessors", inputs, recorded, fills)

    return OfNumbers((column.source,), make)


def _all_steps(column: _Column) -> tuple[Step, ...]:
    return column.steps if column.filled is None else (_filling(column.filled), *column.steps)


def _composed(steps: Sequence[Step]) -> Step:
    def function(values: Any) -> Any:
        values = values.copy()
        for step in steps:
            values = step(values)
        return values

    return function


def _filling(value: Any) -> Step:
    number = float(value)
    return lambda values: np.where(np.isnan(values), number, values)


def _then(column: _Column, step: Step) -> _Column:
    """Return a column after one more step: over its numbers, or over the numbers of its table."""
    if column.table is None:
        return replace(column, steps=(*column.steps, step))
    after = {level: tuple(step(np.array(numbers)).tolist()) for level, numbers in column.table.items()}
    unknown = None if column.unknown is None else tuple(step(np.array(column.unknown)).tolist())
    return replace(column, table=after, unknown=unknown)


def _scaler(bounds: Callable[[Any, str], tuple[float, float]]) -> Callable[[Any, _Stages], None]:
    def apply(stage: Any, stages: _Stages) -> None:
        made = {}
        for source, name in zip(stage.columns, stage.output_columns, strict=True):
            center, spread = bounds(stage, source)
            made[name] = _then(stages.column(source), _affine(float(center), float(spread)))
        stages.columns |= made

    return apply


def _affine(center: float, spread: float) -> Step:
    return lambda values: (values - center) / spread


def _spread(value: float) -> float:
    return 1.0 if value < SMALLEST else value


def _standard(stage: Any, source: str) -> tuple[float, float]:
    return stage.stats_[f"mean({source})"], _spread(stage.stats_[f"std({source})"])


def _minmax(stage: Any, source: str) -> tuple[float, float]:
    low = stage.stats_[f"min({source})"]
    return low, _spread(stage.stats_[f"max({source})"] - low)


def _max_abs(stage: Any, source: str) -> tuple[float, float]:
    return 0.0, stage.stats_[f"abs_max({source})"] or 1.0


def _robust(stage: Any, source: str) -> tuple[float, float]:
    low, middle, high = (stage.stats_[f"{name}({source})"] for name in ("low_quantile", "median", "high_quantile"))
    return middle, high - low or np.inf  # what does not vary becomes 0


def _impute(stage: Any, stages: _Stages) -> None:
    made = {}
    for source, name in zip(stage.columns, stage.output_columns, strict=True):
        value = stage.fill_value if stage.strategy == "constant" else stage.stats_[f"{stage.strategy}({source})"]
        column = stages.column(source)
        if column.table is not None:
            raise ConfigError(f"SimpleImputer of '{source}' after an encoder cannot be taken in: impute first.")
        if column.steps:
            made[name] = _then(column, _filling(value))
        else:
            made[name] = column if column.filled is not None else replace(column, filled=value)
    stages.columns |= made


def _levels(stage: Any, source: str, column: _Column) -> dict[Any, int]:
    if column.steps or column.table is not None:
        raise ConfigError(f"{type(stage).__name__} of '{source}' after a scaler or encoder cannot be taken in.")
    known = stage.stats_[f"unique_values({source})"]
    if isinstance(known, dict):
        return dict(known)
    keys, places = known
    return dict(zip(keys.to_pylist(), places.to_pylist(), strict=True))


def _one_hot(stage: Any, stages: _Stages) -> None:
    made = {}
    for source, name in zip(stage.columns, stage.output_columns, strict=True):
        column = stages.column(source)
        places = _levels(stage, source, column)
        table = {level: tuple(float(place == at) for at in range(len(places))) for level, place in places.items()}
        suffixes = tuple(f"={level}" for level in sorted(places, key=places.__getitem__))
        made[name] = replace(column, table=table, unknown=(0.0,) * len(places), suffixes=suffixes)
    stages.columns |= made


def _ordinal(stage: Any, stages: _Stages) -> None:
    made = {}
    for source, name in zip(stage.columns, stage.output_columns, strict=True):
        column = stages.column(source)
        table = {level: (float(place),) for level, place in _levels(stage, source, column).items()}
        made[name] = replace(column, table=table, unknown=None)
    stages.columns |= made


def _concatenate(stage: Any, stages: _Stages) -> None:
    stages.order = tuple(stage.columns)


_STAGES: dict[str, Callable[[Any, _Stages], None]] = {
    "StandardScaler": _scaler(_standard),
    "MinMaxScaler": _scaler(_minmax),
    "MaxAbsScaler": _scaler(_max_abs),
    "RobustScaler": _scaler(_robust),
    "SimpleImputer": _impute,
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
    "Concatenator": _concatenate,
}
