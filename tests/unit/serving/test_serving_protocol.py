"""The wire: what is read comes back as it went in, and a bad body is told by row, column, value and rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.errors import RowError
from rayline.serving.wire import protocol

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(st.dictionaries(st.text(max_size=12), scalars | st.text(max_size=12)), min_size=1, max_size=5)


@given(rows)
def test_rows_come_through_as_sent(sent: list[dict[str, Any]]) -> None:
    assert protocol.decode_rows(json.dumps({"rows": sent}).encode(), 10) == sent


@given(rows)
def test_an_encoded_value_is_read_back(value: list[dict[str, Any]]) -> None:
    assert json.loads(protocol.encode(value)) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    refused = None
    try:
        protocol.decode_rows(body, 10)
    except RowError as error:
        refused = error
    assert refused is None or json.loads(protocol.encode(protocol.refusal(refused)))["rule"]


@pytest.mark.parametrize(
    ("body", "row", "column", "rule"),
    [
        (b"not json", 0, None, "is not JSON"),
        (b"", 0, None, "is not JSON"),
        (b'{"rows": [{"x": NaN}]}', 0, None, "is not JSON"),
        (b"[]", 0, None, 'must be an object with "rows"'),
        (b'{"row": {}}', 0, None, 'must be an object with "rows"'),
        (b'{"rows": {}}', 0, None, '"rows" must be a list'),
        (b'{"rows": [{}], "extra": 1}', 0, None, "is no key of a predict request"),
        (b'{"rows": [{"x": 1}, 7]}', 1, None, "must be an object of column and value"),
        (b'{"rows": [{"x": 1}, {"y": {}}]}', 1, "y", "must be a number, text, true, false, null or a list of numbers"),
        (b'{"rows": [{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", 0, None, "is nested too deep"),
        (b'{"rows": []}', 0, None, "send 1 to 3 in one request"),
        (b'{"rows": [{}, {}, {}, {}]}', 3, None, "send 1 to 3 in one request"),
    ],
)
def test_a_bad_body_is_told_where_and_why(body: bytes, row: int, column: str | None, rule: str) -> None:
    with pytest.raises(RowError) as caught:
        protocol.decode_rows(body, 3)
    assert (caught.value.row, caught.value.column) == (row, column)
    assert rule in caught.value.rule


def test_a_vector_and_an_image_may_stand_in_a_row() -> None:
    body = b'{"rows": [{"v": [1, 2.5, null], "image": [[1, 2], [3, 4]]}]}'

    assert protocol.decode_rows(body, 1) == [{"v": [1, 2.5, None], "image": [[1, 2], [3, 4]]}]


def test_an_unknown_column_is_told_with_the_nearest() -> None:
    with pytest.raises(RowError) as caught:
        protocol.refuse_unknown_columns([{"age": 1}, {"age": 1, "hight": 2}], ["age", "height"], "label")
    assert (caught.value.row, caught.value.column, caught.value.value) == (1, "hight", 2)
    assert "Did you mean 'height'?" in caught.value.rule


def test_the_target_may_stand_in_a_row() -> None:
    protocol.refuse_unknown_columns([{"age": 1, "label": "yes"}], ["age"], "label")


def test_a_refusal_has_a_json_form_whatever_the_value() -> None:
    body = json.loads(protocol.encode(protocol.refusal(RowError(2, "age", {"deep": [1]}, "must be a number"))))
    assert body == {
        "error": "row 2, column 'age': {'deep': [1]} must be a number",
        "row": 2,
        "column": "age",
        "value": "{'deep': [1]}",
        "rule": "must be a number",
    }


@pytest.mark.parametrize(("label", "labels"), [("yes", ["yes"]), ([1, 0], [1, 0]), (2.5, [2.5]), (None, [None])])
def test_feedback_takes_one_label_or_many(label: object, labels: list[object]) -> None:
    body = json.dumps({"request_id": "1-0123456789abcdef", "label": label}).encode()
    assert protocol.decode_feedback(body).labels == labels


@pytest.mark.parametrize("body", [b"{}", b"x", b'{"request_id": 1, "label": 1}', b'{"request_id": "a"}'])
def test_bad_feedback_is_refused(body: bytes) -> None:
    with pytest.raises(RowError, match="request_id"):
        protocol.decode_feedback(body)
