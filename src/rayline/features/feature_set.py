"""The declared FeatureSet: what goes in and how. ``fit`` gives its state.

Fitting is a fold: ``partial`` looks at some rows, states merge, ``finish`` turns the merged state into columns. The
pipeline runs ``partial`` on Ray; ``fit`` runs it here for an Arrow table or over a Ray Dataset's blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rayline.config import ColumnConfig, ColumnKind, FeaturesConfig
from rayline.errors import ConfigError, DataError, suggestion
from rayline.features import arrow_values
from rayline.features.arrow_values import READERS, RULES
from rayline.features.canonical import level_order
from rayline.features.columns import (
    LARGEST,
    BooleanColumn,
    CategoricalColumn,
    FittedColumn,
    NumericColumn,
    Scale,
)
from rayline.features.datetimes import CIRCLES, DatetimeColumn, DatetimePart, part_of
from rayline.features.schema import ColumnSchema, Schema
from rayline.features.state import ColumnState, FitState, Moments, merge_all, refuse_endless
from rayline.features.transform import FittedFeatureSet

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Which columns go in, how each becomes numbers, and what the target is.

    Attributes:
        schema: the input columns, the target and the task.
        settings: one setting per input column of the schema, in its order.
    """

    schema: Schema
    settings: tuple[ColumnConfig, ...]

    @classmethod
    def from_config(cls, features: FeaturesConfig, schema: Schema) -> FeatureSet:
        """Return the FeatureSet that a configuration declares.

        Raises:
            ConfigError: a declared column is not in the schema, or it has another kind there.
        """
        for name in features.columns:
            if name not in schema.names:
                raise ConfigError(f"features.columns names '{name}'. {suggestion(name, schema.names)}")
        return cls(schema, tuple(_setting(features, column) for column in schema.columns))

    def fit(self, dataset: Any) -> FittedFeatureSet:
        """Return the state fitted on all rows of a dataset.

        Args:
            dataset: a ``pyarrow.Table``, or a ``ray.data.Dataset`` (one execution).

        Raises:
            DataError: there are no rows, or nothing in them varies.
            RowError: a value is not of its column's kind.
        """
        if hasattr(dataset, "iter_batches"):
            from rayline.features.blocks import fold

            return self.finish(merge_all(fold(dataset, self.partial)))
        return self.finish(self.partial(dataset))

    def partial(self, table: pa.Table) -> FitState:
        """Return what some rows say: of each input column, and of the target. Raises ``RowError``."""
        columns = {
            setting_column.name: _observe(setting_column, setting, table.column(setting_column.name))
            for setting_column, setting in zip(self.schema.columns, self.settings, strict=True)
        }
        return FitState({**columns, self.schema.target: self._observe_target(table)})

    def finish(self, state: FitState) -> FittedFeatureSet:
        """Return the fitted columns of a merged state. Raises ``DataError`` where it has no rows or no outputs."""
        target = state.columns.get(self.schema.target, ColumnState())
        if not target.rows:
            raise DataError("the training part has no rows: there is nothing to fit the features on.")
        columns = tuple(
            _fitted(column, setting, state.columns[column.name])
            for column, setting in zip(self.schema.columns, self.settings, strict=True)
        )
        mean, std = 0.0, 1.0
        if self.schema.task == "regression":
            moments = target.moments["value"]
            mean, std = moments.mean, moments.std
            if not moments.varies:
                raise DataError(
                    f"target '{self.schema.target}' is {mean:g} in every training row: there is nothing to learn."
                )
        fitted = FittedFeatureSet(self.schema, columns, mean, std)
        if not fitted.width:
            raise DataError("no input column gives a number: every column is constant. Declare others.")
        return fitted

    def _observe_target(self, table: pa.Table) -> ColumnState:
        name = self.schema.target
        kind: ColumnKind = "numeric" if self.schema.task == "regression" else "categorical"
        return _observe(ColumnSchema(name, kind), ColumnConfig(kind=kind), table.column(name))


def _setting(features: FeaturesConfig, column: ColumnSchema) -> ColumnConfig:
    declared = features.columns.get(column.name, column.kind)
    setting = declared if isinstance(declared, ColumnConfig) else ColumnConfig(kind=declared)
    if setting.kind != column.kind:
        raise ConfigError(
            f"features.columns.{column.name} is '{setting.kind}', but the schema was made with '{column.kind}'. "
            "Make the schema anew from this configuration."
        )
    return setting


def _observe(column: ColumnSchema, setting: ColumnConfig, array: Any) -> ColumnState:
    values = arrow_values.checked(READERS[column.kind], array, column.name, RULES[column.kind])
    present = values.data[~values.missing]
    rows, missing = len(values.missing), int(values.missing.sum())
    if column.kind == "categorical":
        tally = np.bincount(present, minlength=len(values.texts))
        counts = {text: int(count) for text, count in zip(values.texts, tally, strict=True) if count}
        refuse_endless(column.name, counts)
        return ColumnState(rows, missing, counts=counts)
    parts = setting.parts if column.kind == "datetime" else ()
    moments: dict[str, Moments] = {"value": Moments.of(present)}
    for part in parts:
        moments[part] = Moments.of(part_of(part, present))
    return ColumnState(rows, missing, moments=moments)


def _numeric(column: ColumnSchema, setting: ColumnConfig, state: ColumnState) -> FittedColumn:
    moments = state.moments["value"]
    scale = _scale(moments) if setting.scale == "standard" else Scale(bound=LARGEST)
    return NumericColumn(column.name, scale, moments.mean if setting.impute == "mean" else 0.0)


def _categorical(column: ColumnSchema, setting: ColumnConfig, state: ColumnState) -> FittedColumn:
    """Keep the most frequent levels, the first by name among equals, and list them in their natural order."""
    ranked = sorted(state.counts, key=lambda text: (-state.counts[text], level_order(text)))
    return CategoricalColumn(column.name, tuple(sorted(ranked[: setting.max_levels], key=level_order)))


def _boolean(column: ColumnSchema, setting: ColumnConfig, state: ColumnState) -> FittedColumn:
    return BooleanColumn(column.name, state.moments["value"].mean)


def _datetime(column: ColumnSchema, setting: ColumnConfig, state: ColumnState) -> FittedColumn:
    """Leave out the parts that never vary, such as the hour of plain dates."""
    parts = [part for part in setting.parts if state.moments[part].varies]
    scales = {part: Scale() if part in CIRCLES else _scale(state.moments[part]) for part in parts}
    return DatetimeColumn(column.name, tuple(DatetimePart(part, scales[part]) for part in parts))


def _scale(moments: Moments) -> Scale:
    return Scale(moments.mean, moments.std if moments.varies and moments.std > 0 else 1.0)


_FITTERS: dict[str, Callable[[ColumnSchema, ColumnConfig, ColumnState], FittedColumn]] = {
    "numeric": _numeric,
    "categorical": _categorical,
    "boolean": _boolean,
    "datetime": _datetime,
}


def _fitted(column: ColumnSchema, setting: ColumnConfig, state: ColumnState) -> FittedColumn:
    return _FITTERS[column.kind](column, setting, state)
