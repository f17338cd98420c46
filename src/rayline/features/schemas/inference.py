"""What a table seems to be: the kind of each column, the task, and the columns better left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rayline.config import READ_KINDS, ColumnConfig, ColumnKind, FeaturesConfig, Task, column_config, kind_of
from rayline.errors import ConfigError, DataError, suggestion
from rayline.features.leakage.columns import Suggestion, leaks
from rayline.features.reading import arrow_values
from rayline.features.reading.arrow_values import READERS, RULES, reader, rule
from rayline.features.reading.canonical import level_order
from rayline.features.reading.tensor_values import common_shape, shape_of
from rayline.features.schemas.schema import ColumnSchema, Schema

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CODES = 32  # distinct integers that still look like codes of a category
MOST_CLASSES = 20  # distinct integers that still look like classes
MOST_NAMED_CLASSES = 1_000
MOST_LISTED = 1_000  # levels that a schema lists
SHORTEST_DATE = len("2011-01-01")
FEWEST_ROWS = 20  # with fewer, values that never repeat mean nothing
PROBE = 100  # rows tried before a whole column is read as dates


@dataclass(frozen=True, slots=True)
class Inferred:
    """The schema without the columns that are better left out, and those columns with the reason of each."""

    schema: Schema
    dropped: tuple[Suggestion, ...]


def infer(table: pa.Table, target: str, task: Literal["auto"] | Task = "auto") -> Inferred:
    """Return the schema that a table suggests.

    Raises:
        DataError: the table has no rows or no such target, the target cannot be learned (one class only, one number
            only, missing values), or no usable input column is left.
    """
    task, classes = infer_task(table, target, task)
    dropped: dict[str, Suggestion] = {}
    columns: list[ColumnSchema] = []
    for name in table.column_names:
        if name == target:
            continue
        found = _unusable(table.column(name), name)
        if found is None:
            columns.append(column_schema(table.column(name), name, infer_kind(table.column(name))))
        else:
            dropped[name] = found
    scalars = tuple(column for column in columns if column.shape is None)
    dropped |= {each.column: each for each in leaks(table, scalars, target, task)}
    kept = tuple(column for column in columns if column.name not in dropped)
    if not kept:
        raise DataError(
            f"no usable input column is left beside target '{target}': "
            + "; ".join(f"'{name}' {each.reason}" for name, each in dropped.items())
            + ". Declare the inputs under features.columns."
        )
    order = [name for name in table.column_names if name in dropped]
    schema = Schema(kept, target, task, classes, _answer(table, target, task))
    return Inferred(schema, tuple(dropped[name] for name in order))


def schema_for(features: FeaturesConfig, table: pa.Table) -> Schema:
    """Return the schema of a configured project: the declared columns, or all but the target and ``drop``.

    Raises:
        ConfigError: a declared or dropped column is not in the table, or the target is declared as an input.
        DataError: as ``infer``; nothing is left out here but what the configuration drops.
        RowError: a value is not of its declared kind.
    """
    wanted = raw_columns(features) or dict.fromkeys(each for each in table.column_names if each != features.target)
    for key, names in (("columns", tuple(wanted)), ("drop", features.drop)):
        for name in names:
            if name not in table.column_names:
                near = suggestion(name, table.column_names)
                raise ConfigError(f"features.{key} names '{name}', which the data does not have. {near}")
    if features.target in wanted:
        raise ConfigError(f"features.columns names the target '{features.target}': the answer cannot be an input.")
    task, classes = infer_task(table, features.target, features.task)
    kept = {name: kind for name, kind in wanted.items() if name not in features.drop}
    if not kept:
        raise DataError(f"features.drop leaves no input column beside target '{features.target}'.")
    columns = [
        column_schema(table.column(name), name, kind or infer_kind(table.column(name))) for name, kind in kept.items()
    ]
    return Schema(tuple(columns), features.target, task, classes, _answer(table, features.target, task))


def inputs_of(schema: Schema, features: FeaturesConfig) -> Schema:
    """Return a schema with the columns that the features look at: what is besides is checked, and no feature."""
    wanted = raw_columns(features) or dict.fromkeys(schema.names)
    kept = tuple(each for each in schema.columns if each.name in wanted and each.name not in features.drop)
    return replace(schema, columns=kept)


def raw_columns(features: FeaturesConfig) -> dict[str, ColumnKind | None]:
    """Return the raw columns that the declared features look at, each with the kind that one of them reads it as.

    Raises:
        ConfigError: two features read one column as different kinds.
    """
    found: dict[str, ColumnKind | None] = {}
    for name, declared in features.columns.items():
        kind = declared_kind(declared)
        for column in feature_inputs(name, column_config(declared)):
            known = found.get(column)
            if known is not None and kind is not None and known != kind:
                raise ConfigError(
                    f"features.columns.{name} reads column '{column}' as {kind}, and another feature as {known}. "
                    "A column is read as one kind: declare both alike."
                )
            found[column] = known or kind
    return found


def feature_inputs(name: str, setting: ColumnConfig) -> tuple[str, ...]:
    """Return the raw columns that a declared feature looks at."""
    inputs: tuple[str, ...] = getattr(setting, "inputs", ())
    return inputs or (setting.source or name,)


def declared_kind(declared: ColumnKind | ColumnConfig | None) -> ColumnKind | None:
    """Return the kind that a configuration reads a column as, or None where it does not say."""
    kind = declared if declared is None or isinstance(declared, str) else kind_of(declared)
    return next((each for each in READ_KINDS if each == kind), None)


def infer_task(table: pa.Table, target: str, task: Literal["auto"] | Task = "auto") -> tuple[Task, tuple[str, ...]]:
    """Return the task and, for a classification, the classes in order. Raises ``DataError`` as ``infer`` does."""
    if target not in table.column_names:
        raise DataError(f"the data has no target column '{target}'. {suggestion(target, table.column_names)}")
    if not table.num_rows:
        raise DataError("the data has no rows: there is nothing to infer from.")
    array = table.column(target)
    if array.null_count:
        raise DataError(
            f"target '{target}' has no value in {array.null_count:,} of {table.num_rows:,} rows. "
            "Remove these rows, or fill them: a model cannot learn from them."
        )
    if _is_number(array.type) and task in ("auto", "regression") and _distinct(array) > MOST_CLASSES:
        arrow_values.checked(arrow_values.numbers, array, target, RULES["numeric"])
        return "regression", ()
    found = arrow_values.checked(arrow_values.levels, array, target, RULES["categorical"]).texts
    if len(found) < 2:
        only = f"'{found[0]}'" if found else "missing"
        raise DataError(f"target '{target}' is {only} in every row: a model needs at least two different values.")
    task = _task_of(array, found) if task == "auto" else task
    if task == "regression":
        arrow_values.checked(arrow_values.numbers, array, target, RULES["numeric"])
        return task, ()
    if len(found) > MOST_NAMED_CLASSES:
        raise DataError(f"target '{target}' has {len(found):,} different values, too many for classes. Name another.")
    if task == "binary" and len(found) != 2:
        raise DataError(f"target '{target}' has {len(found)} classes, so the task is multiclass and not binary.")
    return task, tuple(sorted(found, key=level_order))


def infer_kind(array: Any) -> ColumnKind:
    """Return the kind that a column's type and values suggest."""
    import pyarrow as pa

    kind = array.type
    shape = shape_of(array)
    if shape is not None:
        return "vector" if len(shape) == 1 else "image"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "datetime"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return _kind_of_integers(array)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "numeric"
    texts = arrow_values.levels(array).texts
    if texts and {text.lower() for text in texts} <= {"true", "false"}:
        return "boolean"
    if not texts or any(len(text) < SHORTEST_DATE for text in texts) or not _reads_as_dates(array.slice(0, PROBE)):
        return "categorical"
    return "datetime" if _reads_as_dates(array) else "categorical"


def _reads_as_dates(array: Any) -> bool:
    return not arrow_values.instants(array).wrong.any()


def column_schema(array: Any, name: str, kind: ColumnKind) -> ColumnSchema:
    """Return what a schema says of one column. Raises ``RowError`` for a value that is not of the kind."""
    if kind in ("vector", "image"):
        shape = common_shape(array)
        missing = arrow_values.checked(reader(kind, shape), array, name, rule(kind, shape)).missing
        return ColumnSchema(name, kind, nullable=bool(missing.any()), shape=shape)
    values = arrow_values.checked(READERS[kind], array, name, RULES[kind])
    nullable = bool(values.missing.any())
    if kind == "categorical":
        levels = tuple(sorted(values.texts, key=level_order)) if len(values.texts) <= MOST_LISTED else None
        return ColumnSchema(name, kind, nullable=nullable, levels=levels)
    present = values.data[~values.missing]
    if kind in ("boolean", "text") or not len(present):
        return ColumnSchema(name, kind, nullable=nullable)
    integer = kind == "numeric" and bool((present == np.floor(present)).all())
    bounds = float(present.min()), float(present.max())
    center = float(np.partition(present, len(present) // 2)[len(present) // 2])
    return ColumnSchema(name, kind, integer, nullable, None, *bounds, center=center)


def _task_of(array: Any, found: tuple[str, ...]) -> Task:
    if len(found) == 2:
        return "binary"
    whole = all(text.removeprefix("-").isdecimal() for text in found)
    return "regression" if _is_number(array.type) and not (whole and len(found) <= MOST_CLASSES) else "multiclass"


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _distinct(array: Any) -> int:
    import pyarrow.compute as pc

    return int(pc.count_distinct(array, mode="only_valid").as_py())


def _kind_of_integers(array: Any) -> ColumnKind:
    """Tell codes from quantities: few values without wide gaps, each often, are codes; 0 and 1 are a boolean."""
    values = arrow_values.numbers(array)
    distinct, counts = np.unique(values.data[~values.missing], return_counts=True)
    if not len(distinct):
        return "numeric"
    if set(distinct.tolist()) <= {0.0, 1.0}:
        return "boolean"
    dense = distinct[-1] - distinct[0] + 1 <= 2 * len(distinct)
    often = counts.sum() >= 20 * len(distinct)
    return "categorical" if len(distinct) <= MOST_CODES and dense and often else "numeric"


def _answer(table: pa.Table, target: str, task: Task) -> ColumnSchema | None:
    """Return the bounds of a number to predict; the classes say all of the others."""
    if task != "regression":
        return None
    return replace(column_schema(table.column(target), target, "numeric"), environments=("TRAINING",))


def _unusable(array: Any, name: str) -> Suggestion | None:
    """Return why a column is no input whatever the target is, or None."""
    import pyarrow as pa

    kind = array.type
    if array.null_count == len(array):
        return Suggestion(name, "is empty: it has no value in any row")
    if shape_of(array) is not None:
        return None
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return Suggestion(name, f"holds {kind}, which has no column kind")
    rows, distinct = len(array), _distinct(array)
    if distinct == 1 and not array.null_count:
        return Suggestion(name, f"is constant: '{arrow_values.levels(array).texts[0]}' in every row")
    reason = identifier(array, name)
    if reason is not None:
        return Suggestion(name, reason, "identifier")
    free = not _is_number(kind) and rows >= FEWEST_ROWS and distinct > max(1_000, rows // 2)
    if free and infer_kind(array) != "datetime":
        return Suggestion(name, f"is free text or an identifier: {distinct:,} different values in {rows:,} rows")
    return None


def identifier(array: Any, name: str) -> str | None:
    """Return why a column is an identifier, or None: another whole number or text in every row."""
    import pyarrow as pa

    kind = array.type
    if len(array) < FEWEST_ROWS or pa.types.is_nested(kind) or pa.types.is_binary(kind):
        return None
    if pa.types.is_integer(kind):
        numbers = arrow_values.numbers(array).data
        if _distinct(array) == len(array):
            near = numbers.max() - numbers.min() < 2 * len(array)
            return "is an identifier: another whole number in every row" if near or _sounds_like_a_key(name) else None
    elif not _is_number(kind) and _distinct(array) == len(array) and infer_kind(array) != "datetime":
        return "is an identifier: another value in every row"
    return None


def _sounds_like_a_key(name: str) -> bool:
    words = name.lower().replace("-", "_").split("_")
    return name.lower().endswith("id") or any(word in ("id", "key", "uuid", "index", "number", "no") for word in words)
