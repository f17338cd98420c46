"""The declared FeatureSet: what goes in and how. ``fit`` gives its state.

Fitting is a fold: ``observe`` looks at some rows, states merge, ``finish`` turns the merged state into columns. The
pipeline runs ``observe`` on Ray; ``fit`` runs it here for an Arrow table or over a Ray Dataset's blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import READ_KINDS, ColumnConfig, ColumnKind, FeaturesConfig, column_config, kind_of, plain
from rayline.errors import ConfigError, DataError, suggestion
from rayline.features.kinds import Feature, Observed, kind_named
from rayline.features.observe import observe
from rayline.features.reading.batch import Batch
from rayline.features.schemas.inference import feature_inputs
from rayline.features.schemas.schema import ColumnSchema, Schema, digest_of
from rayline.features.state import ColumnState, FitState, merge_all
from rayline.features.threads import LARGE, ROWS, each, is_large
from rayline.features.transform import FittedFeatureSet

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a FeatureSet is to be observed: raw columns (the target among them) and features, by name."""

    columns: frozenset[str]
    features: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.columns or self.features)


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Which columns go in, how each becomes numbers, and what the target is.

    Attributes:
        schema: the raw columns, the target and the task.
        features: what is made of them, in the order of the outputs.
    """

    schema: Schema
    features: tuple[Feature, ...]

    @classmethod
    def from_config(cls, features: FeaturesConfig, schema: Schema) -> FeatureSet:
        """Return the FeatureSet that a configuration declares.

        Raises:
            ConfigError: a feature looks at a column that is not in the schema, or that has another kind there.
        """
        if not features.columns:
            return cls(schema, tuple(Feature(each.name, column_config(each.kind), (each,)) for each in schema.columns))
        declared = {name: column_config(each) for name, each in features.columns.items() if name not in features.drop}
        return cls(schema, tuple(_feature(name, each, schema) for name, each in declared.items()))

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

            large = is_large(_rows_known(dataset), len(self.schema.columns))
            return self.finish(merge_all(fold(dataset, partial(self.observe, large=large))))
        return self.finish(self._observed(self._batches(dataset)))

    def fit_transform(self, table: pa.Table) -> tuple[FittedFeatureSet, NDArray[np.float32]]:
        """Fit on a table and return the state with the network's input for the same rows, each column read once.

        Returns:
            The fitted features, and float32 (n, width) as ``transform(table, training=True)`` gives it.

        Raises:
            DataError, RowError: as ``fit``.
        """
        batches = self._batches(table)
        fitted = self.finish(self._observed(batches))
        return fitted, fitted.matrix_of(batches, training=True)

    def observe(self, table: pa.Table, wanted: Wanted | None = None, *, large: bool = False) -> FitState:
        """Return what some training rows say of every raw column, of the target and of each feature's own extras.

        Args:
            table: the rows.
            wanted: what to look at; all of it where None.
            large: the rows are part of a large table, for which loading the compiled loops pays.

        Raises:
            RowError: a value is not of its column's kind.
        """
        return self._observed([Batch(table, self.schema, compiled=large)], wanted)

    @property
    def everything(self) -> Wanted:
        """All that there is to observe."""
        columns = frozenset(each.name for each in self._columns())
        return Wanted(columns, frozenset(each.name for each in self.features))

    def reads(self, wanted: Wanted) -> tuple[str, ...]:
        """Return the raw columns that must be read to observe what is wanted."""
        features = [each for each in self.features if each.name in wanted.features]
        if any(kind_named(each.kind).looks_beyond(each) for each in features):
            return (*self.schema.names, self.schema.target)
        inputs = (column.name for each in features for column in each.inputs)
        return tuple({**dict.fromkeys(sorted(wanted.columns)), **dict.fromkeys(inputs), self.schema.target: None})

    def column_keys(self) -> dict[str, str]:
        """Return, by raw column, a digest of all that its observation depends on beside the rows."""
        return {each.name: digest_of({"column": asdict(each)}) for each in self._columns()}

    def feature_keys(self) -> dict[str, str]:
        """Return, by feature, a digest of all that its own observation depends on beside the rows."""
        schema = self.schema
        whole = {"names": list(schema.names), "target": schema.target, "task": schema.task, "classes": schema.classes}
        return {
            each.name: digest_of(
                {"setting": plain(each.setting), "inputs": [asdict(one) for one in each.inputs]}
                | kind_named(each.kind).depends(each)
                | (whole if kind_named(each.kind).looks_beyond(each) else {})
            )
            for each in self.features
        }

    def finish(self, state: FitState) -> FittedFeatureSet:
        """Return the fitted features of a merged state. Raises ``DataError`` where it has no rows or no outputs."""
        target = state.columns.get(self.schema.target, ColumnState())
        if not target.rows:
            raise DataError("the training part has no rows: there is nothing to fit the features on.")
        columns = tuple(
            kind_named(each.kind).finish(each, Observed(state.columns, state.extras.get(each.name, {}), target))
            for each in self.features
        )
        mean, std = 0.0, 1.0
        if self.schema.task == "regression":
            mean, std = target.moments.mean, target.moments.std
            if not target.moments.varies:
                raise DataError(
                    f"target '{self.schema.target}' is {mean:g} in every training row: there is nothing to learn."
                )
        fitted = FittedFeatureSet(self.schema, columns, mean, std)
        if not fitted.width:
            raise DataError("no input column gives a number: every column is constant. Declare others.")
        return fitted

    def _batches(self, table: pa.Table) -> list[Batch]:
        large = is_large(table.num_rows, len(self.schema.columns))
        starts = range(0, max(table.num_rows, 1), ROWS)
        return [Batch(table.slice(start, ROWS), self.schema, compiled=large) for start in starts]

    def _columns(self) -> tuple[ColumnSchema, ...]:
        kind: ColumnKind = "numeric" if self.schema.task == "regression" else "categorical"
        return (*self.schema.columns, ColumnSchema(self.schema.target, kind))

    def _observed(self, batches: Sequence[Batch], wanted: Wanted | None = None) -> FitState:
        """Return what the batches say together."""
        wanted = wanted or self.everything
        columns = [each for each in self._columns() if each.name in wanted.columns]
        features = [each for each in self.features if each.name in wanted.features]

        def look(batch: Batch) -> FitState:
            states = {
                column.name: observe(column, batch.values(column.name, column.kind), compiled=batch.compiled)
                for column in columns
            }
            extras = {feature.name: kind_named(feature.kind).observe(feature, batch) for feature in features}
            return FitState(states, {name: found for name, found in extras.items() if found})

        return merge_all(each(batches, look, large=any(batch.compiled for batch in batches)))


def _rows_known(dataset: Any) -> int:
    """Return the rows of a Dataset that is computed already; of another it is only known that they are many."""
    from ray.data.dataset import MaterializedDataset

    return int(dataset.count()) if isinstance(dataset, MaterializedDataset) else LARGE


def _feature(name: str, setting: ColumnConfig, schema: Schema) -> Feature:
    kind, inputs = kind_of(setting), feature_inputs(name, setting)
    for column in inputs:
        if column not in schema.names:
            place = f"features.columns.{name}" if column != name else "features.columns"
            raise ConfigError(f"{place} names '{column}'. {suggestion(column, schema.names)}")
    found = tuple(schema.column(column) for column in inputs)
    if kind in READ_KINDS and found[0].kind != kind:
        raise ConfigError(
            f"features.columns.{name} is '{kind}', but the schema was made with '{found[0].kind}'. "
            "Make the schema anew from this configuration."
        )
    return Feature(name, setting, found)
