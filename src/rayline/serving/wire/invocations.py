"""MLflow's ``/invocations``: the forms of a table that its scoring server takes, and the answer that it gives. Pure.

The forms are those of https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input. A column must have
its name: a list of lists under ``inputs`` or ``instances`` is refused, as MLflow refuses it for a model whose signature
names columns. Answers equal those of the bundle's own ``pyfunc`` model.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from rayline.errors import RowError
from rayline.serving.wire.protocol import Row

FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
_SHOWN = '{"dataframe_split": {"columns": [...], "data": [[...], ...]}}'

_decode = msgspec.json.Decoder().decode


def read_json(body: bytes, max_rows: int) -> list[Row]:
    """Return the rows of a JSON request. Raises ``RowError`` where it is none of MLflow's forms."""
    try:
        raw = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = body[:200].decode("utf-8", "replace")
        raise RowError(0, None, text, f"is not JSON such as {_SHOWN}: {error}") from error
    forms = [each for each in FORMS if isinstance(raw, dict) and each in raw]
    if len(forms) != 1:
        found = list(raw) if isinstance(raw, dict) else raw
        raise RowError(0, None, found, f"must have one of {', '.join(FORMS)}, for instance {_SHOWN}")
    if raw.get("params"):
        raise RowError(0, None, raw["params"], "are parameters, and this model has none; leave params out")
    return _counted(_READERS[forms[0]](raw[forms[0]]), max_rows)


def read_csv(body: bytes, numbers: Sequence[str], max_rows: int) -> list[Row]:
    """Return the rows of a CSV request with a line of column names.

    Args:
        body: UTF-8.
        numbers: the columns that hold numbers; an empty field is a missing value in any column.
        max_rows: per request.

    Raises:
        RowError: it is no such text.
    """
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8"), newline=""), strict=True)
        names = next(lines, [])
        rows: list[Row] = []
        for fields in lines:
            if not fields:
                continue
            if len(fields) != len(names):
                raise RowError(len(rows), None, len(fields), f"fields stand in a line, and {len(names)} names above")
            if len(rows) >= max_rows:
                raise RowError(len(rows), None, len(rows) + 1, f"rows were sent; send 1 to {max_rows} in one request")
            rows.append(
                {name: _field(name, text, numbers, len(rows)) for name, text in zip(names, fields, strict=True)}
            )
    except (UnicodeDecodeError, csv.Error) as error:
        raise RowError(0, None, body[:60].decode("utf-8", "replace"), f"is no CSV in UTF-8: {error}") from error
    _refuse_twice(names)
    return _counted(rows, max_rows)


def predictions(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the answer: ``prediction``, or ``label`` and one ``probability_CLASS`` for each class, as columns."""
    return {
        "predictions": [
            {
                "label": record["label"],
                **{f"probability_{label}": share for label, share in record["probabilities"].items()},
            }
            if "label" in record
            else record
            for record in records
        ]
    }


def _counted(rows: list[Row], max_rows: int) -> list[Row]:
    if not 0 < len(rows) <= max_rows:
        rule = f"rows were sent; send 1 to {max_rows} in one request"
        raise RowError(max(0, len(rows) - 1), None, len(rows), rule)
    return rows


def _split(raw: Any) -> list[Row]:
    if not isinstance(raw, dict) or "data" not in raw or not raw.keys() <= {"columns", "data", "index"}:
        raise RowError(0, None, raw, 'must be {"columns": [...], "data": [[...], ...]} for dataframe_split')
    names, data = raw.get("columns"), raw["data"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RowError(0, None, names, "must be the list of column names of dataframe_split")
    if not isinstance(data, list):
        raise RowError(0, None, data, "must be the list of rows of dataframe_split")
    _refuse_twice(names)
    for index, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(names):
            raise RowError(index, None, row, f"must be a list of {len(names)} values, one for each column")
    return [dict(zip(names, row, strict=True)) for row in data]


def _records(raw: Any) -> list[Row]:
    if not isinstance(raw, list):
        raise RowError(0, None, raw, "must be a list of rows, each an object of column and value")
    for index, row in enumerate(raw):
        if not isinstance(row, dict):
            raise RowError(index, None, row, "must be an object of column and value")
    return raw


def _columns_or_records(raw: Any) -> list[Row]:
    """Return rows of columns with a list each, of columns with one value each, or of records."""
    if not isinstance(raw, dict):
        return _records(raw)
    lists = [name for name, value in raw.items() if isinstance(value, list)]
    if not lists:
        return [raw]
    rows = len(raw[lists[0]])
    for name, value in raw.items():
        if not isinstance(value, list) or len(value) != rows:
            found = len(value) if isinstance(value, list) else value
            raise RowError(0, name, found, f"values must be a list of {rows}, as '{lists[0]}' has")
    return [dict(zip(raw, values, strict=True)) for values in zip(*raw.values(), strict=True)]


_READERS: Mapping[str, Callable[[Any], list[Row]]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "inputs": _columns_or_records,
    "instances": _columns_or_records,
}


def _field(name: str, text: str, numbers: Sequence[str], row: int) -> str | float | None:
    if not text:
        return None
    if name not in numbers:
        return text
    try:
        return float(text)
    except ValueError as error:
        raise RowError(row, name, text, "is not a finite number") from error


def _refuse_twice(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise RowError(0, name, name, "names two columns; each must have a name of its own")
        seen.add(name)
