"""Write ``schema.yaml``: a line for each column, and changes that leave what a person wrote alone."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from rayline.errors import ConfigError
from rayline.features.checks.rules import bound_text
from rayline.features.reading.canonical import level_text
from rayline.features.schemas.schema import ENVIRONMENTS, FORMAT, ColumnSchema, Schema
from rayline.features.schemas.schema_file import parsed_schema

WIDTH = 118

HEAD = """\
# What the data must look like: review it, edit it, keep it beside the code.
# `rayline validate CONFIG [DATA]` checks a table against it, and `--update` proposes changes as a diff.
# Per column: kind, required, nullable, max_missing, unique, domain, min, max, integer, shape,
# environments (TRAINING, SERVING). What happens to rows that break a rule: validate.policies in the configuration.
"""

REMARKS = {
    "min_rows": "fewest rows of a table",
    "max_duplicates": "share of rows that may be copies of another",
    "max_missing": "share of rows without a value, for every column that does not say its own",
}


def schema_text(schema: Schema) -> str:
    """Return the file of a schema; ``schema_file.parsed_schema`` gives the same schema."""
    lines = [HEAD.rstrip(), f"format: {FORMAT}", f"target: {scalar(schema.target)}", f"task: {schema.task}"]
    lines += [_limit_line(key, value) for key, value in _limits(schema).items()]
    lines.append("columns:")
    for column in (*schema.columns, schema.target_column):
        lines += column_lines(column)
    return "\n".join(lines) + "\n"


def revised_text(text: str, schema: Schema) -> str:
    """Return a file's text with what differs in ``schema`` written anew, and every other line as it was.

    A file whose columns share lines is written anew as a whole.

    Raises:
        ConfigError: the text is not a schema.
    """
    before = parsed_schema(text)
    if schema == before:
        return text
    revised = _edited(text, before, schema)
    try:
        return revised if parsed_schema(revised) == schema else schema_text(schema)
    except ConfigError:
        return schema_text(schema)


def _edited(text: str, before: Schema, schema: Schema) -> str:
    lines = text.splitlines()
    edits: list[tuple[int, int, list[str]]] = []
    root = _entries(yaml.compose(text, Loader=yaml.SafeLoader))
    columns = root["columns"][1]
    known = {each.name: each for each in (*before.columns, before.target_column)}
    placed = _entries(columns)
    fresh: list[str] = []
    for column in (*schema.columns, schema.target_column):
        if column.name not in placed:
            fresh += column_lines(column)
        elif column != known[column.name]:
            key, value = placed[column.name]
            last = _last_line(value)
            remark = lines[last][value.end_mark.column :] if value.end_mark.line == last else ""
            written = column_lines(column, " " * key.start_mark.column)
            edits.append((key.start_mark.line, last + 1, [*written[:-1], written[-1] + remark.rstrip()]))
    end = _last_line(columns) + 1
    edits.append((end, end, fresh))
    start = root["columns"][0].start_mark.line
    old = _limits(before)
    for key, value in _limits(schema).items():
        if old.get(key) != value:
            first = root[key][0].start_mark.line if key in root else start
            edits.append((first, first + (key in root), [_limit_line(key, value)]))
    for first, last, new in sorted(edits, key=lambda each: each[0], reverse=True):
        lines[first:last] = new
    return "\n".join(lines) + "\n"


def column_lines(column: ColumnSchema, indent: str = "  ") -> list[str]:
    """Return a column's entry: one line, or a block where its domain is long."""
    values = _values(column)
    name = f"{indent}{scalar(column.name)}:"
    line = f"{name} {{{', '.join(f'{key}: {value}' for key, value in values.items())}}}"
    if len(line) <= WIDTH:
        return [line]
    lines = [name]
    for key, value in values.items():
        lines += (
            textwrap.wrap(
                f"{key}: {value}",
                WIDTH,
                initial_indent=indent * 2,
                subsequent_indent=indent * 2 + "  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            if " '" not in value and ' "' not in value
            else [f"{indent * 2}{key}: {value}"]
        )
    return lines


def scalar(text: str) -> str:
    """Return a text as YAML reads it back, within braces too."""
    dumped: str = yaml.safe_dump([text], default_flow_style=True, width=1_000_000, allow_unicode=True)
    return dumped.strip()[1:-1]


def _values(column: ColumnSchema) -> dict[str, str]:
    def bound(value: float | None) -> str | None:
        if value is None:
            return None
        return bound_text(column, value) if column.kind == "datetime" else _number(value)

    said: dict[str, str | None] = {
        "kind": column.kind,
        "integer": "true" if column.integer else None,
        "required": None if column.required else "false",
        "nullable": "true" if column.nullable else None,
        "max_missing": None if column.max_missing is None else _number(column.max_missing),
        "unique": "true" if column.unique else None,
        "domain": _sequence(column.levels, _level),
        "min": bound(column.minimum),
        "max": bound(column.maximum),
        "median": bound(column.center),
        "shape": _sequence(column.shape, str),
        "environments": _sequence(column.environments, str) if column.environments != ENVIRONMENTS else None,
    }
    return {key: value for key, value in said.items() if value is not None}


def _sequence(values: Sequence[Any] | None, written: Callable[[Any], str]) -> str | None:
    return None if values is None else f"[{', '.join(map(written, values))}]"


def _limits(schema: Schema) -> dict[str, float]:
    limits = {
        "min_rows": schema.min_rows or None,
        "max_duplicates": schema.max_duplicates,
        "max_missing": schema.max_missing,
    }
    return {key: value for key, value in limits.items() if value is not None}


def _limit_line(key: str, value: float) -> str:
    return f"{key}: {_number(value)}  # {REMARKS[key]}"


def _number(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    dumped: str = yaml.safe_dump(float(value))
    return dumped.splitlines()[0]


def _level(text: str) -> str:
    """Return a level without quotes where YAML reads a number or a truth that means the same."""
    bare = re.fullmatch(r"-?[0-9]+(\.[0-9]+)?|true|false", text)
    return text if bare and level_text(yaml.safe_load(text)) == text else scalar(text)


def _entries(node: Any) -> Mapping[str, tuple[Any, Any]]:
    return {key.value: (key, value) for key, value in node.value}


def _last_line(node: Any) -> int:
    """Return the line of a node's last sign: YAML ends a block only where the next one begins."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style:
        return int(node.end_mark.line)
    if not node.value:
        return int(node.start_mark.line)
    last = node.value[-1]
    return _last_line(last[1] if isinstance(last, tuple) else last)
