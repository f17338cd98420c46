"""``schema.yaml``: the schema as a person reads, reviews and edits it. ``schema_text`` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import yaml
from msgspec import Meta

from rayline.config import Config, Environment, Task, typed
from rayline.config.columns import ColumnKind
from rayline.config.section import Positive, Section
from rayline.config.validation import Fraction
from rayline.errors import ConfigError, NotFoundError, suggestion
from rayline.features.reading import canonical
from rayline.features.schemas.schema import ENVIRONMENTS, FORMAT, READABLE, ColumnSchema, Schema

Bound = float | str | None


class ColumnEntry(Section, frozen=True, kw_only=True):
    """``columns.NAME``: one column.

    Attributes:
        kind: how it is read.
        integer: whether numbers are whole.
        required: whether a table must have the column.
        nullable: whether a row without a value is no surprise.
        max_missing: share of rows that may have none.
        unique: whether no value may repeat.
        domain: the levels of a category.
        min, max, median: of numbers, or of dates and times in ISO 8601.
        shape: of a vector or an image.
        environments: where the column is to be found; the target is not there when serving.
    """

    kind: ColumnKind
    integer: bool = False
    required: bool = True
    nullable: bool = False
    max_missing: Fraction | None = None
    unique: bool = False
    domain: tuple[bool | int | float | str, ...] | None = None
    min: Bound = None
    max: Bound = None
    median: Bound = None
    shape: tuple[Positive, ...] | None = None
    environments: Annotated[tuple[Environment, ...], Meta(min_length=1)] = ENVIRONMENTS


class SchemaEntry(Section, frozen=True, kw_only=True):
    """The file as a whole; ``target`` is one of ``columns``, its domain the classes."""

    target: str
    task: Task
    columns: dict[str, ColumnEntry]
    format: int = FORMAT
    min_rows: Annotated[int, Meta(ge=0)] = 0
    max_duplicates: Fraction | None = None
    max_missing: Fraction | None = None


def read_schema(file: str | Path) -> Schema:
    """Read a schema file.

    Raises:
        NotFoundError: there is none.
        ConfigError: it is not YAML, or a key or value in it is wrong; it names the nearest valid one.
    """
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(
            f"schema '{path}' does not exist. `rayline init` writes one; without validate.schema it is inferred."
        ) from error
    except ValueError as error:
        raise ConfigError(f"schema '{path}' is not UTF-8 text: {error}.") from error
    try:
        return parsed_schema(text)
    except ConfigError as error:
        raise ConfigError(f"'{path}': {error}") from error


def parsed_schema(text: str) -> Schema:
    """Return the schema that a file's text says. Raises ``ConfigError``."""
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"the schema is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(
            f"the schema must be a mapping with 'target', 'task' and 'columns', not {type(raw).__name__}."
        )
    entry = typed(_without_dates(raw), SchemaEntry, "schema")
    if entry.format not in READABLE:
        raise ConfigError(f"schema key 'format' is {entry.format}: this Rayline reads formats 1 to {FORMAT}.")
    columns = {name: _column(name, each) for name, each in entry.columns.items()}
    answer = columns.pop(entry.target, None)
    if answer is None:
        near = suggestion(entry.target, entry.columns)
        raise ConfigError(f"schema key 'target' names '{entry.target}', which is not among 'columns'. {near}")
    classes = _classes(entry, answer)
    plain = Schema(tuple(columns.values()), entry.target, entry.task, classes)
    return replace(
        plain,
        answer=None if answer == plain.target_column else answer,
        min_rows=entry.min_rows,
        max_duplicates=entry.max_duplicates,
        max_missing=entry.max_missing,
    )


def configured_schema(config: Config) -> Schema | None:
    """Return the schema of the configured file, without the columns that the features drop; None without a file.

    Raises:
        NotFoundError: the file is not there.
        ConfigError: it is not a schema, or it is of another target or task than the configuration.
    """
    if config.validate.schema is None:
        return None
    schema, features = read_schema(config.validate.schema), config.features
    for key, ours, theirs in (("target", features.target, schema.target), ("task", features.task, schema.task)):
        if ours not in ("auto", theirs):
            raise ConfigError(
                f"'{config.validate.schema}' has the {key} '{theirs}', the configuration '{ours}'. Make them alike."
            )
    kept = tuple(each for each in schema.columns if each.name not in features.drop)
    return replace(schema, columns=kept)


def _classes(entry: SchemaEntry, answer: ColumnSchema) -> tuple[str, ...]:
    place = f"schema key 'columns.{entry.target}"
    if entry.task == "regression":
        if answer.kind != "numeric":
            raise ConfigError(f"{place}.kind' is '{answer.kind}': the target of a regression is numeric.")
        return ()
    if answer.kind != "categorical":
        raise ConfigError(f"{place}.kind' is '{answer.kind}': the target of a classification is categorical.")
    classes = answer.levels or ()
    if len(classes) < 2 or (entry.task == "binary" and len(classes) != 2):
        wanted = "the two classes" if entry.task == "binary" else "the classes, two or more"
        raise ConfigError(f"{place}.domain' lists {len(classes)} levels: a {entry.task} task needs {wanted}.")
    return classes


def _column(name: str, entry: ColumnEntry) -> ColumnSchema:
    place = f"schema key 'columns.{name}"
    numbers = entry.kind in ("numeric", "datetime")
    for key, used, allowed in (
        ("domain", entry.domain is not None, entry.kind == "categorical"),
        ("min", entry.min is not None, numbers),
        ("max", entry.max is not None, numbers),
        ("median", entry.median is not None, numbers),
        ("integer", entry.integer, entry.kind == "numeric"),
        ("shape", entry.shape is not None, entry.kind in ("vector", "image")),
    ):
        if used and not allowed:
            raise ConfigError(f"{place}.{key}' does not belong to a column of the kind '{entry.kind}'.")
    low, high, middle = (_bound(f"{place}.{key}'", entry.kind, getattr(entry, key)) for key in ("min", "max", "median"))
    if low is not None and high is not None and low > high:
        raise ConfigError(f"{place}.min' ({entry.min}) is above its max ({entry.max}).")
    if middle is None and low is not None and high is not None:
        middle = low + (high - low) / 2
    return ColumnSchema(
        name,
        entry.kind,
        entry.integer,
        entry.nullable,
        _levels(place, entry.domain),
        low,
        high,
        middle,
        entry.shape,
        entry.required,
        entry.unique,
        entry.max_missing,
        entry.environments,
    )


def _levels(place: str, domain: tuple[object, ...] | None) -> tuple[str, ...] | None:
    if domain is None:
        return None
    texts = [canonical.level_text(value) for value in domain]
    if None in texts:
        raise ConfigError(f"{place}.domain' lists an empty text: a row without a value is 'nullable: true'.")
    return tuple(sorted({text for text in texts if text is not None}, key=canonical.level_order))


def _bound(place: str, kind: str, value: Bound) -> float | None:
    if value is None:
        return None
    try:
        found = canonical.instant(value) if kind == "datetime" else canonical.number(value)
    except (ValueError, OverflowError):
        found = None
    if found is None:
        wanted = "an ISO 8601 date or time" if kind == "datetime" else "a number"
        raise ConfigError(f"{place} is {value!r}, and must be {wanted}.")
    return float(found)


def _without_dates(raw: Any) -> Any:
    """Return YAML values with dates as texts, and the names of columns as texts too."""
    if isinstance(raw, Mapping):
        return {str(key) if isinstance(key, int | float) else key: _without_dates(each) for key, each in raw.items()}
    if isinstance(raw, list):
        return [_without_dates(each) for each in raw]
    return raw.isoformat() if isinstance(raw, date) else raw
