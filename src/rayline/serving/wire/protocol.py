"""What goes over the wire: requests read, answers and refusals written. Pure, and quick for one row.

A refused request says which row, which column, what was found there and the rule; nothing in it is guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from rayline.errors import RowError, shown, suggestion

MAX_BODY_BYTES = 64 * 1024 * 1024

Scalar = str | int | float | bool | None
Value = Scalar | list[Any]
"""A list, or lists in a list, is a vector or an image: its column says which shape it must have."""
Row = dict[str, Value]


class _Predict(Struct, forbid_unknown_fields=True):
    rows: list[Row]


class Feedback(Struct, forbid_unknown_fields=True):
    """Late truth for one request: a label per row, or the label itself where the request had one row."""

    request_id: str
    label: Scalar | list[Scalar]

    @property
    def labels(self) -> list[Scalar]:
        """One label per row."""
        return self.label if isinstance(self.label, list) else [self.label]


_predict = msgspec.json.Decoder(_Predict)
_feedback = msgspec.json.Decoder(Feedback)
_encode = msgspec.json.Encoder(enc_hook=str).encode


def decode_rows(body: bytes, max_rows: int) -> list[Row]:
    """Return the rows of a predict request.

    Raises:
        RowError: the body is not ``{"rows": [{column: value}, ...]}``, or holds no row or too many.
    """
    try:
        rows = _predict.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _why_refused(body, error) from error
    count = len(rows.rows)
    if not 0 < count <= max_rows:
        rule = f"rows were sent; send 1 to {max_rows} in one request"
        raise RowError(max(0, count - 1), None, count, rule)
    return rows.rows


def decode_feedback(body: bytes) -> Feedback:
    """Return the truth of a feedback request. Raises ``RowError`` where the body is not that."""
    try:
        return _feedback.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        rule = f'is not {{"request_id": "...", "label": value or list of values}}: {error}'
        raise RowError(0, None, _text(body), rule) from error


def refuse_unknown_columns(rows: Sequence[Mapping[str, Any]], inputs: Sequence[str], target: str) -> None:
    """Refuse a column that is neither an input nor the target.

    Raises:
        RowError: names the first such column and the nearest input.
    """
    known = {*inputs, target}
    for index, row in enumerate(rows):
        for column in row:
            if column not in known:
                rule = f"belongs to no input column. {suggestion(column, inputs)}"
                raise RowError(index, column, row[column], rule)


def encode(value: object) -> bytes:
    """Return JSON; what JSON has no form for becomes text."""
    return _encode(value)


def prediction_prefix(model: str, version: int) -> bytes:
    """Return the part of an answer that is the same for every request to a version; the request id follows."""
    return _encode({"model": model, "version": version})[:-1] + b',"request_id":"'


def refusal(error: RowError) -> dict[str, Any]:
    """Return the body of a 422."""
    value = error.value if isinstance(error.value, str | int | float | bool | None) else shown(error.value)
    return {"error": str(error), "row": error.row, "column": error.column, "value": value, "rule": error.rule}


def problem(message: str, **facts: Any) -> dict[str, Any]:
    """Return the body of any other refusal."""
    return {"error": message, **facts}


def _why_refused(body: bytes, error: Exception) -> RowError:
    """Look at the body once more, without types, to name the row and column at fault."""
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return RowError(0, None, _text(body), f"is not JSON: {error}")
    except RecursionError:
        return RowError(0, None, _text(body), 'is nested too deep; send {"rows": [{"column": value, ...}, ...]}')
    if not isinstance(raw, dict) or "rows" not in raw:
        return RowError(0, None, raw, 'must be an object with "rows": {"rows": [{"column": value, ...}, ...]}')
    if not isinstance(raw["rows"], list):
        return RowError(0, None, raw["rows"], '"rows" must be a list of objects')
    extra = next((key for key in raw if key != "rows"), None)
    if extra is not None:
        return RowError(0, None, extra, 'is no key of a predict request, which has "rows" alone')
    for index, row in enumerate(raw["rows"]):
        if not isinstance(row, dict):
            return RowError(index, None, row, "must be an object of column and value")
        for column, value in row.items():
            if not isinstance(value, str | int | float | bool | list | None):
                return RowError(index, column, value, "must be a number, text, true, false, null or a list of numbers")
    return RowError(0, None, _text(body), str(error))


def _text(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")
