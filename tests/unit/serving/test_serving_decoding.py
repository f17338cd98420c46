"""A compiled decoder gives the numbers of the general path to the last bit, or leaves the request to it."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from column_cases import CASES, Case
from rayline.errors import RowError
from rayline.features.transform import FittedFeatureSet
from rayline.registry.predictor import Predictions
from rayline.serving.wire import protocol
from rayline.serving.wire.decoding import RowDecoder
from rayline.serving.wire.encoding import RecordEncoder
from registry_examples import fitted, mixed_table, real_table

SOME = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
ANYTHING = NUMBERS | st.text(max_size=5) | st.booleans() | st.lists(st.integers(0, 9), max_size=3)


def sent(rows: list[dict[str, Any]]) -> bytes:
    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, date | datetime) else value

    return json.dumps({"rows": [{key: plain(value) for key, value in row.items()} for row in rows]}).encode()


def general(features: FittedFeatureSet, body: bytes) -> Any:
    try:
        return features.rows(protocol.decode_rows(body, 1000)).tobytes()
    except RowError:
        return None


def compiled(features: FittedFeatureSet, body: bytes) -> Any:
    decoder = RowDecoder(features)
    rows = decoder.rows(body, 1000)
    if rows is None:
        return None
    try:
        matrix = decoder.matrix([rows[:1], rows[1:]] if len(rows) > 1 else [rows])
    except RowError:
        return None
    return None if matrix is None else matrix.tobytes()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@SOME
@given(data=st.data())
def test_each_kind_of_column_is_read_as_by_the_general_path(case: Case, data: st.DataObject) -> None:
    features = case.fitted()
    rows = [
        {name: row[name] for name in features.input_columns} for row in [*data.draw(case.rows()), *case.known_rows()]
    ]
    body = sent(rows)
    assert compiled(features, body) == general(features, body) is not None


@SOME
@given(st.data())
def test_whatever_stands_in_a_row_the_compiled_path_never_says_other_numbers(data: st.DataObject) -> None:
    features = fitted(mixed_table())
    names = [*features.input_columns, features.schema.target, "unknown"]
    rows = st.lists(st.dictionaries(st.sampled_from(names), ANYTHING), min_size=1, max_size=3)
    whole = st.fixed_dictionaries(dict.fromkeys(features.input_columns, ANYTHING))
    body = sent(data.draw(rows | st.lists(whole, min_size=1, max_size=3)))
    found = compiled(features, body)
    assert found is None or found == general(features, body)


@SOME
@given(st.lists(st.lists(NUMBERS, min_size=10, max_size=10), min_size=1, max_size=5))
def test_numbers_of_any_size_are_read_as_by_the_general_path(values: list[list[Any]]) -> None:
    features = fitted(real_table("regression"))
    body = sent([dict(zip(features.input_columns, row, strict=True)) for row in values])
    assert compiled(features, body) == general(features, body)


@pytest.mark.parametrize("change", ["absent", "unknown", "text", "no rows", "too many"])
def test_what_is_not_as_the_schema_has_it_is_left_to_the_general_path(change: str) -> None:
    features = fitted(real_table("regression"))
    row: dict[str, Any] = dict.fromkeys(features.input_columns, 1.0)
    first = features.input_columns[0]
    rows = {
        "absent": [{name: value for name, value in row.items() if name != first}],
        "unknown": [{**row, "other": 1}],
        "text": [{**row, first: "1"}],
        "no rows": [],
        "too many": [row] * 11,
    }[change]
    assert RowDecoder(features).rows(sent(rows), 10) is None


def test_typed_rows_look_like_what_was_sent() -> None:
    features = fitted(mixed_table())
    row = dict(zip(features.input_columns, range(len(features.input_columns)), strict=True))
    rows = RowDecoder(features).rows(sent([row, {**row, features.schema.target: 3}]), 10)
    assert rows is not None
    assert list(rows) == [row, row] == [rows[0], rows[-1]]


LABELS = st.lists(st.text(max_size=4), min_size=2, max_size=5, unique=True).map(tuple)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_answers_are_written_as_one_mapping_per_row_would_be(data: st.DataObject) -> None:
    labels = data.draw(st.none() | LABELS)
    rows = data.draw(st.integers(0, 4))
    floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
    if labels is None:
        values = data.draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=rows, max_size=rows))
        predictions = Predictions(np.array(values), None, None)
    else:
        shares = data.draw(st.lists(floats, min_size=rows * len(labels), max_size=rows * len(labels)))
        matrix = np.array(shares, dtype=np.float32).reshape(rows, len(labels))
        predictions = Predictions(matrix.argmax(axis=1), matrix, labels)
    assert RecordEncoder(labels).encode(predictions) == msgspec.json.encode(predictions.records())
