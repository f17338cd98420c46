"""A scikit-learn transformer, fitted on a sample of the training rows.

Where its arithmetic is known it becomes a plan of our own; any other is kept by skops and scikit-learn itself runs,
which for one row took 0.1 to 0.5 ms where it was measured (principal components, splines, neighbours). The
sample is that of ``sketches.Sample``: up to 5,000 different rows by the hash of their content, each as often as it
occurs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import SklearnConfig
from rayline.errors import ConfigError, DataError, suggestion
from rayline.features.imported import imported
from rayline.features.kinds.function import depends, function_column, restored
from rayline.features.kinds.inputs import Doubles, Input, arrays_of, inputs_of, row_reader
from rayline.features.kinds.seam import LARGEST, Extras, Feature, Filler, FittedColumn, Kind, Observed
from rayline.features.reading.arrow_values import LIMIT
from rayline.features.reading.batch import Batch
from rayline.features.recorded import Plan, Recorded
from rayline.features.sketches import Sample

CLOSE = 1e-9  # relative, between a plan and the transformer that it stands for


@dataclass(frozen=True, slots=True)
class SklearnColumn:
    """The outputs of a transformer that scikit-learn itself runs.

    Attributes:
        transformer: its class, for people.
        columns: the raw columns, in the order of the transformer's inputs.
        suffixes: one text per output, which follows the feature's name.
        blanks: what stands for a missing input, where the transformer takes none; else empty.
        fills: what stands for an output without a value.
        state: the fitted transformer, as ``skops_state.packed`` writes it.
    """

    name: str
    transformer: str
    columns: tuple[Input, ...]
    suffixes: tuple[str, ...]
    blanks: tuple[float, ...]
    fills: tuple[float, ...]
    state: str = field(repr=False)
    kind: str = "sklearn"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The raw columns."""
        return tuple(each.name for each in self.columns)

    @property
    def output_names(self) -> tuple[str, ...]:
        """``name.output``, by the transformer's own names of its outputs, or ``name[0]`` and so on."""
        return tuple(f"{self.name}{suffix}" for suffix in self.suffixes)

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """See ``FittedColumn``."""
        if len(batch):
            out[:] = self._outputs(np.column_stack(arrays_of(batch, self.columns)))

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        values_of, end = row_reader(self.columns), offset + len(self.suffixes)

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            out[offset:end] = self._outputs(np.array([values_of(row)]))[0].tolist()

        return fill

    def to_json(self) -> dict[str, Any]:
        """See ``FittedColumn``."""
        return {
            "kind": self.kind,
            "name": self.name,
            "transformer": self.transformer,
            "columns": [[each.name, each.kind] for each in self.columns],
            "suffixes": list(self.suffixes),
            "blanks": list(self.blanks),
            "fills": list(self.fills),
            "skops": self.state,
        }

    def _outputs(self, rows: Doubles) -> Doubles:
        if self.blanks:
            rows = np.where(np.isnan(rows), self.blanks, rows)
        return _finite(outputs_of(_loaded(self.state), rows), self.fills)


def outputs_of(transformer: Any, rows: Doubles) -> Doubles:
    """Return what a fitted transformer makes of float64 (n, inputs): float64 (n, outputs)."""
    with np.errstate(all="ignore"):
        found = transformer.transform(rows)
    dense = found.toarray() if hasattr(found, "toarray") else found
    doubles: Doubles = np.asarray(dense, dtype=np.float64)
    return doubles[:, np.newaxis] if doubles.ndim == 1 else doubles


def column_of(
    name: str, transformer: Any, columns: Sequence[Input], rows: Doubles, blanks: Sequence[float], place: str
) -> FittedColumn:
    """Return the column of a fitted transformer of numbers: a plan where it is known, else scikit-learn itself.

    Args:
        name: of the feature.
        transformer: fitted without names of columns; it takes as many numbers as there are ``columns``.
        columns: the raw columns.
        rows: float64 (n, inputs), n at least 1, such as it was fitted on: what stands for a missing output is the mean
            of theirs, and a plan is compared on them.
        blanks: what stands for missing inputs, or none where the transformer takes these.
        place: names it in messages.

    Raises:
        ConfigError: the transformer cannot be kept without pickle.
    """
    from rayline.features.bridges.skops_state import packed

    label = f"{type(transformer).__module__.split('._')[0]}:{type(transformer).__name__}"
    outputs = outputs_of(transformer, np.where(np.isnan(rows), blanks, rows) if blanks else rows)
    fills = tuple(means_of(outputs))
    suffixes = _suffixes(transformer, columns, outputs.shape[1])
    plan = _plan(transformer, rows, blanks, outputs)
    if plan is not None:
        return function_column(name, label, columns, Recorded(plan, suffixes), fills, kind="sklearn")
    state = packed(transformer, place)
    return SklearnColumn(name, label, tuple(columns), suffixes, tuple(blanks), fills, state)


def means_of(rows: Doubles) -> list[float]:
    """Return the mean of the finite numbers of each column of float64 (n, width); 0 where there are none."""
    valued = np.isfinite(rows)
    sums = np.where(valued, np.clip(rows, -LIMIT, LIMIT), 0.0).sum(axis=0)
    means: list[float] = (sums / np.maximum(valued.sum(axis=0), 1)).tolist()
    return means


def _plan(transformer: Any, rows: Doubles, blanks: Sequence[float], outputs: Doubles) -> Plan | None:
    """Return the transformer's plan where there is one that gives the same numbers."""
    from rayline.features.bridges.sklearn_plans import NoPlan, plan_of

    try:
        plan = plan_of(transformer, rows.shape[1], blanks).plan
    except NoPlan:
        return None
    found = np.column_stack(plan.many(list(rows.T)))
    same = found.shape == outputs.shape and np.allclose(found, outputs, rtol=CLOSE, atol=CLOSE, equal_nan=True)
    return plan if same else None


def _suffixes(transformer: Any, columns: Sequence[Input], width: int) -> tuple[str, ...]:
    plain = tuple(f"[{place}]" for place in range(width))
    if not hasattr(transformer, "get_feature_names_out"):
        return plain
    try:
        names = transformer.get_feature_names_out([each.name for each in columns])
    except (ValueError, AttributeError):  # of a step within it
        return plain
    suffixes = tuple(f".{name}" for name in names)
    return suffixes if len(set(suffixes)) == width else plain


def _finite(outputs: Doubles, fills: Sequence[float]) -> Doubles:
    finite: Doubles = np.clip(np.where(np.isfinite(outputs), outputs, fills), -LARGEST, LARGEST)
    return finite


@lru_cache(maxsize=256)
def _loaded(state: str) -> Any:
    from rayline.features.bridges.skops_state import unpacked

    return unpacked(state)


def _observe(feature: Feature, batch: Batch) -> Extras:
    rows = np.column_stack(arrays_of(batch, inputs_of(feature)))
    return {"sample": Sample.of(batch.folds, rows)}


def _finish(feature: Feature, observed: Observed) -> FittedColumn:
    setting = _setting(feature)
    place = f"features.columns.{feature.name}: transformer '{setting.transformer}'"
    transformer, inputs = _built(setting, feature.name), inputs_of(feature)
    sample = observed.extras["sample"]
    assert isinstance(sample, Sample)
    rows = sample.drawn()
    blanks = () if _tags(transformer).input_tags.allow_nan else tuple(means_of(rows))
    try:
        transformer.fit(np.where(np.isnan(rows), blanks, rows) if blanks else rows)
        return column_of(feature.name, transformer, inputs, rows, blanks, place)
    except (ValueError, TypeError) as error:
        raise DataError(f"{place} cannot be fitted on {len(rows):,} training rows: {error}") from error


def _built(setting: SklearnConfig, name: str) -> Any:
    """Return the transformer, not fitted. Raises ``ConfigError`` for what is none, or not scikit-learn's."""
    setting_name = f"features.columns.{name}.transformer"
    if not setting.transformer.startswith("sklearn."):
        raise ConfigError(
            f"{setting_name} '{setting.transformer}' must be one of scikit-learn's, such as "
            "sklearn.preprocessing:PowerTransformer: what serves has no other package. A function of your own is a "
            "column of kind 'function'."
        )
    made = imported(setting.transformer, setting_name)
    if not (isinstance(made, type) and hasattr(made, "fit") and hasattr(made, "transform")):
        raise ConfigError(f"{setting_name} '{setting.transformer}' is no class with fit and transform.")
    options = dict(setting.options)
    try:
        transformer = made(**options)
    except TypeError as error:
        raise ConfigError(f"features.columns.{name}.options do not fit {setting.transformer}: {error}.") from error
    known = transformer.get_params(deep=False)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ConfigError(
            f"features.columns.{name}.options: {setting.transformer} has no '{unknown[0]}'. "
            f"{suggestion(unknown[0], known)}"
        )
    if _tags(transformer).target_tags.required:
        raise ConfigError(f"{setting_name} '{setting.transformer}' learns from the target, which no feature may see.")
    if "random_state" in known and "random_state" not in options:
        transformer.set_params(random_state=0)  # the same data must give the same features
    return transformer


def _tags(transformer: Any) -> Any:
    from sklearn.utils import get_tags

    return get_tags(transformer)


def _setting(feature: Feature) -> SklearnConfig:
    assert isinstance(feature.setting, SklearnConfig)
    return feature.setting


def _restore(raw: Mapping[str, Any]) -> FittedColumn:
    if "plan" in raw:
        return restored(raw)
    _loaded(raw["skops"])  # what may not load is refused before anything is asked of it
    return SklearnColumn(
        raw["name"],
        raw["transformer"],
        tuple(Input(name, kind) for name, kind in raw["columns"]),
        tuple(raw["suffixes"]),
        tuple(raw["blanks"]),
        tuple(raw["fills"]),
        raw["skops"],
    )


def _whole_rows(feature: Feature) -> bool:
    """The sample is of whole rows, by their hashes."""
    return True


KIND = Kind("sklearn", _finish, _restore, _observe, _whole_rows, depends)
