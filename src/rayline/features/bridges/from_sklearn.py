"""A fitted scikit-learn transformer as fitted features: equal numbers, our row path, JSON state.

Taken as tables: ``OneHotEncoder``, ``OrdinalEncoder`` and ``TargetEncoder``, also after a ``SimpleImputer``. Taken as
plans: the transformers of numbers that ``sklearn_plans`` knows, and pipelines of them. Any other transformer of numbers
is kept by skops and run by scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rayline.config import Task
from rayline.errors import ConfigError
from rayline.features.bridges.assembling import Doubles, Member, OfNumbers, assembled, lookup
from rayline.features.kinds.inputs import Input
from rayline.features.kinds.lookup import LookupColumn, Numbers
from rayline.features.kinds.seam import FittedColumn
from rayline.features.kinds.sklearn import column_of, means_of
from rayline.features.transform import FittedFeatureSet

if TYPE_CHECKING:
    import pyarrow as pa

ENCODERS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
NEVER = "\x00never"  # a level that no encoder knows


def from_sklearn(
    fitted: Any,
    table: pa.Table,
    target: str,
    *,
    columns: Sequence[str] | None = None,
    task: Literal["auto"] | Task = "auto",
) -> FittedFeatureSet:
    """Return the features that a fitted transformer is.

    Args:
        fitted: a ``ColumnTransformer``, or a transformer or ``Pipeline`` of all its columns.
        table: rows such as it was fitted on, with the target: they give the schema, and what stands for an output that
            scikit-learn would leave NaN (its mean).
        target: the target column.
        columns: the names of its input columns, where it was fitted on arrays.
        task: inferred from the target where ``auto``.

    Raises:
        ConfigError: it is not fitted, its columns have no names, or one of its members is not known here; the message
            names it and what is known.
        SchemaError, DataError: the table or its target does not fit.
    """
    names = tuple(columns if columns is not None else getattr(fitted, "feature_names_in_", ()))
    if not names:
        raise ConfigError(
            f"the {type(fitted).__name__} is not fitted, or was fitted on arrays and does not know the names of its "
            "columns: fit it, and give columns=[...]."
        )
    members: list[Member] = []
    for part in _parts(fitted, names):
        members += _members(part)
    return assembled(members, table, target, task)


@dataclass(frozen=True, slots=True)
class _Part:
    """A transformer and the names of the columns that it takes."""

    name: str
    transformer: Any
    columns: tuple[str, ...]

    @property
    def steps(self) -> tuple[Any, ...]:
        return _steps(self.transformer)


def _steps(transformer: Any) -> tuple[Any, ...]:
    name = type(transformer).__name__
    if name == "FrozenEstimator":
        return _steps(transformer.estimator)
    if name == "Pipeline":
        return tuple(step for _, each in transformer.steps for step in _steps(each))
    return () if transformer is None or isinstance(transformer, str) else (transformer,)


def _parts(fitted: Any, names: tuple[str, ...]) -> list[_Part]:
    steps = _steps(fitted)
    inner = [type(each).__name__ for each in steps]
    if "ColumnTransformer" not in inner:
        return [_Part(type(fitted).__name__.lower(), fitted, names)]
    if len(steps) > 1:
        raise ConfigError(
            f"a Pipeline with {' and '.join(inner)} cannot be taken in: a ColumnTransformer is known alone, with its "
            "Pipelines inside it. Put what comes after it into its members."
        )
    chosen = []
    if steps[0].transformer_weights:
        raise ConfigError("ColumnTransformer(transformer_weights=...) cannot be taken in: leave weights to a model.")
    for name, transformer, columns in steps[0].transformers_:
        if not (isinstance(transformer, str) and transformer == "drop"):
            chosen.append(_Part(name, transformer, _resolved(columns, names)))
    return [each for each in chosen if each.columns]


def _resolved(columns: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(columns, str):
        return (columns,)
    if isinstance(columns, slice):
        bounds = [names.index(each) if isinstance(each, str) else each for each in (columns.start, columns.stop)]
        stop = bounds[1] + 1 if isinstance(columns.stop, str) else bounds[1]  # by name, the end is included
        return names[bounds[0] : stop : columns.step]
    if isinstance(columns, (int, np.integer)):
        return (names[int(columns)],)
    chosen = list(columns)
    if chosen and all(isinstance(each, (bool, np.bool_)) for each in chosen):
        return tuple(name for name, taken in zip(names, chosen, strict=True) if taken)
    return tuple(each if isinstance(each, str) else names[int(each)] for each in chosen)


def _members(part: _Part) -> list[Member]:
    steps = part.steps
    named = [type(each).__name__ for each in steps]
    if named and named[-1] in ENCODERS and set(named[:-1]) <= {"SimpleImputer"}:
        return list(_lookups(part, steps[-1]))
    if set(named) & set(ENCODERS):
        raise ConfigError(
            f"'{part.name}' ({' and '.join(named)}) cannot be taken in: an encoder of levels is known alone or after a "
            "SimpleImputer, and nothing may follow it."
        )

    def make(inputs: tuple[Input, ...], rows: Doubles) -> FittedColumn:
        transformer = _nameless(_as_transformer(part))
        blanks = () if _takes_missing(transformer, rows) else tuple(means_of(rows))
        return column_of(part.name, transformer, inputs, rows, blanks, f"'{part.name}' ({' and '.join(named)})")

    return [OfNumbers(part.columns, make)]


def _as_transformer(part: _Part) -> Any:
    if part.steps:
        return part.transformer
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(feature_names_out="one-to-one").fit(np.zeros((1, len(part.columns))))


def _nameless(transformer: Any) -> Any:
    """Return a copy that takes arrays without a warning about the names it was fitted on."""
    copy = deepcopy(transformer)
    _forget_names(copy)
    return copy


def _forget_names(part: Any) -> None:
    """Forget them in a transformer and in all that it holds."""
    if isinstance(part, (list, tuple)):
        for each in part:
            _forget_names(each)
    elif type(part).__module__.startswith("sklearn.") and hasattr(part, "get_params"):
        vars(part).pop("feature_names_in_", None)
        for each in vars(part).values():
            _forget_names(each)


def _takes_missing(transformer: Any, rows: Doubles) -> bool:
    try:
        transformer.transform(np.full((1, rows.shape[1]), np.nan))
    except ValueError:
        return False
    return True


def _lookups(part: _Part, encoder: Any) -> list[LookupColumn]:
    if type(encoder).__name__ == "TargetEncoder" and getattr(encoder, "target_type_", "") == "multiclass":
        raise ConfigError(f"'{part.name}' (TargetEncoder of several classes) cannot be taken in. Known: one of two.")
    widths = [_width(encoder, place) for place in range(len(part.columns))]
    ends = np.cumsum([0, *widths]).tolist()
    names = [str(each) for each in part.transformer.get_feature_names_out(list(part.columns))]
    found = []
    for place, (source, (start, end)) in enumerate(zip(part.columns, pairwise(ends), strict=True)):
        ours = names[start:end]
        known = all(name.startswith(source) for name in ours)
        suffixes = [name[len(source) :] if known else f"[{at}]" for at, name in enumerate(ours)]
        asked = _Asked(part, encoder, place, slice(start, end))
        levels = encoder.categories_[place].tolist()
        table = dict(zip(levels, asked.many(levels), strict=True))
        found.append(lookup(f"{part.name}.{source}", source, suffixes, table, asked.unknown(), asked.missing()))
    return found


def _width(encoder: Any, place: int) -> int:
    """Return how many outputs an encoder has for one of its columns."""
    if type(encoder).__name__ != "OneHotEncoder":
        return 1
    width = len(encoder.categories_[place])
    rare = getattr(encoder, "infrequent_categories_", None)
    if rare is not None and rare[place] is not None:
        width -= len(rare[place]) - 1
    dropped = encoder.drop_idx_
    return width - int(dropped is not None and dropped[place] is not None)


@dataclass(frozen=True, slots=True)
class _Asked:
    """An encoder's own answers for one of its columns; the others hold their first level meanwhile."""

    part: _Part
    encoder: Any
    place: int
    outputs: slice

    def many(self, levels: Sequence[Any]) -> list[Numbers]:
        """Return the outputs of each level. Raises ``ValueError`` where the encoder refuses one."""
        import pandas as pd

        frame = {}
        for place, (name, known) in enumerate(zip(self.part.columns, self.encoder.categories_, strict=True)):
            if place == self.place:
                frame[name] = pd.Series(list(levels), dtype=known.dtype)
            else:
                frame[name] = pd.Series([known[0]] * len(levels), dtype=known.dtype)
        rows: Any = pd.DataFrame(frame)
        if not hasattr(self.part.steps[0], "feature_names_in_"):
            rows = rows.to_numpy()
        encoded = self.part.transformer.transform(rows)
        dense = encoded.toarray() if hasattr(encoded, "toarray") else np.asarray(encoded)
        return [tuple(float(each) for each in row) for row in dense[:, self.outputs]]

    def unknown(self) -> Numbers | None:
        """Return the outputs of a level that the encoder does not know; None where it refuses these."""
        known = self.encoder.categories_[self.place]
        return self._try(NEVER if known.dtype.kind in "OUS" else _another(known))

    def missing(self) -> Numbers | None:
        """Return the outputs of a missing value; None where the encoder refuses it."""
        known = self.encoder.categories_[self.place]
        if known.dtype.kind in "biu":
            return self._try(_another(known)) if len(self.part.steps) == 1 else None
        first = self.part.steps[0]
        return self._try(first.missing_values if type(first).__name__ == "SimpleImputer" else np.nan)

    def _try(self, level: Any) -> Numbers | None:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the level is unknown, which is what is asked
            try:
                numbers = self.many([level])[0]
            except (ValueError, TypeError):
                return None
        return numbers if all(np.isfinite(numbers)) else None


def _another(known: Any) -> Any:
    numbers = [float(each) for each in known.tolist() if each == each]
    return max(numbers, default=0.0) + 1.0
