"""What a row and an answer of one version are, as JSON Schema (draft 2020-12, which OpenAPI 3.1 uses). Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import reduce
from typing import Any

from rayline.features.reading.tensor_values import LIMIT
from rayline.features.schemas.schema import ColumnSchema, Schema
from rayline.serving.versions.served import Served

Json = dict[str, Any]

LEVELS_SHOWN = 50

NUMBER: Json = {"type": "number", "exclusiveMinimum": -LIMIT, "exclusiveMaximum": LIMIT}
_NULL: Json = {"type": "null"}


def row(served: Served) -> Json:
    """Return the schema of one row: every input column must be there, null where its value is not known.

    Columns that the version can look up may be left out, where the keys to look them up by are there.
    """
    schema = served.bundle.features.schema
    found, keys = _looked_up(served)
    properties = {name: column(schema.column(name)) for name in served.columns}
    for key in keys:
        properties.setdefault(key, {"description": "A key, or the time, by which columns are looked up."})
    properties.setdefault(schema.target, {"description": "The target: ignored."})
    required = [name for name in served.columns if name not in found]
    example = [dict(each) for each in served.bundle.example[:1]]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        **({"examples": example} if example else {}),
    }


def column(facts: ColumnSchema) -> Json:
    """Return the schema of one column's values."""
    about = _about(facts)
    if facts.kind == "numeric":
        return {"anyOf": [NUMBER, _NULL], **about}
    if facts.kind == "boolean":
        return {"anyOf": [{"type": "boolean"}, {"enum": [0, 1, "true", "false", ""]}, _NULL], **about}
    if facts.kind == "categorical":
        return {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, _NULL], **about}
    if facts.kind == "datetime":
        return {
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}, _NULL]
        } | about
    if facts.kind == "text":
        return {"anyOf": [{"type": "string"}, _NULL], **about}
    shape = facts.shape or ()
    return {"anyOf": [_array(shape), *([_array((_size(shape),))] if len(shape) > 1 else []), _NULL], **about}


def prediction(schema: Schema) -> Json:
    """Return the schema of the answer for one row."""
    if schema.task == "regression":
        return _object({"prediction": {"type": "number"}})
    share: Json = {"type": "number", "minimum": 0, "maximum": 1}
    shares = _object(dict.fromkeys(schema.classes, share))
    return _object({"label": {"enum": list(schema.classes)}, "probabilities": shares})


def mlflow_prediction(schema: Schema) -> Json:
    """Return the schema of MLflow's answer for one row."""
    if schema.task == "regression":
        return prediction(schema)
    shares = {f"probability_{each}": {"type": "number", "minimum": 0, "maximum": 1} for each in schema.classes}
    return _object({"label": {"enum": list(schema.classes)}, **shares})


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _about(facts: ColumnSchema) -> Json:
    """Return what the training part says of a column. It bounds no request: a value beyond it is answered."""
    told: list[str] = [facts.kind]
    about: Json = {}
    if facts.minimum is not None and facts.maximum is not None and facts.kind == "numeric":
        told.append(f"{facts.minimum:g} to {facts.maximum:g} in the training data")
        about["x-training-range"] = [facts.minimum, facts.maximum]
    if facts.levels is not None:
        told.append(f"{len(facts.levels)} levels in the training data; others count as unknown")
        about["x-levels"] = list(facts.levels[:LEVELS_SHOWN])
        about["examples"] = list(facts.levels[:3])
    if facts.shape is not None:
        told.append(f"{' by '.join(map(str, facts.shape))}")
    return {"description": "; ".join(told) + ".", **about}


def _array(shape: Sequence[int]) -> Json:
    schema: Json = dict(NUMBER)
    for size in reversed(shape):
        schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
    return schema


def _size(shape: Sequence[int]) -> int:
    return reduce(lambda left, right: left * right, shape, 1)


def _looked_up(served: Served) -> tuple[Collection[str], list[str]]:
    """Return the columns that a version can look up, and the columns that tell which row and time."""
    need = served.bundle.history
    if need is None:
        return (), []
    found = {name for table in need.tables for name in table.columns.values()}
    found |= {window.name for group in need.windows for window in group.windows}
    places = [*((each.keys, each.at) for each in need.tables), *((each.keys, each.at) for each in need.windows)]
    return found, list(dict.fromkeys(key for keys, at in places for key in (*keys, at)))
