"""A state as JSON plus Arrow comes back as it was, and what stays in the JSON is short."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.errors import SchemaError
from rayline.features.packing import LONG, from_bytes, packed, to_bytes, unpacked
from rayline.features.transform import FittedFeatureSet
from registry_examples import fitted

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)
keys = st.text(max_size=6) | st.sampled_from(["$arrow", "$", "$$type", "a.b", "a", "b"])


def long_lists(element: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Lists of more than ``LONG`` elements, without drawing each of them."""
    some = st.lists(element, min_size=1, max_size=4)
    return st.builds(lambda few, extra: (few * LONG)[: LONG + extra], some, st.integers(0, 3))


pairs = st.lists(st.floats(allow_nan=False), min_size=2, max_size=2)
elements = (
    long_lists(st.text(max_size=5))
    | long_lists(st.integers(-(2**70), 2**70))
    | long_lists(st.floats(allow_nan=False))
    | long_lists(st.floats(allow_nan=False) | st.integers(-5, 5))
    | long_lists(pairs)
    | long_lists(st.lists(st.integers(-5, 5), max_size=2) | st.integers(-5, 5))
    | long_lists(scalars)
)
values = st.recursive(
    scalars | elements,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)


def same(left: Any, right: Any) -> bool:
    """Equal, of equal types, to the sign of a zero."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(same(*both) for both in zip(left, right, strict=True))
    if isinstance(left, float):
        return math.copysign(1, left) == math.copysign(1, right) and (
            left == right or (left != left and right != right)
        )
    return bool(left == right)


@given(st.dictionaries(keys, values, max_size=4))
@settings(deadline=None)
def test_what_is_packed_comes_back_as_it_was(raw: dict[str, Any]) -> None:
    left, table = packed(raw)
    stored = json.loads(json.dumps(left))

    again = unpacked(stored, None if table is None else from_bytes(to_bytes(table)))

    assert same(again, raw)


@given(st.dictionaries(keys, values, max_size=4))
@settings(deadline=None)
def test_packing_twice_gives_the_same_bytes(raw: dict[str, Any]) -> None:
    (one, first), (two, second) = packed(raw), packed(json.loads(json.dumps(raw)))

    assert json.dumps(one) == json.dumps(two)
    assert (first is None) == (second is None)
    assert first is None or to_bytes(first) == to_bytes(second)


def test_numbers_that_json_has_no_word_for_are_kept() -> None:
    raw = {"idf": [math.nan, math.inf, -math.inf, -0.0, 5e-324] * 100}

    left, table = packed(raw)

    assert left == {"idf": {"$arrow": "idf", "type": "double", "length": 500}}
    assert table is not None
    assert same(unpacked(left, from_bytes(to_bytes(table))), raw)


def test_short_lists_stay_readable_where_they_are() -> None:
    raw = {"levels": [str(number) for number in range(LONG - 1)], "mean": 0.5}

    assert packed(raw) == (raw, None)


def test_the_state_of_a_thousand_levels_is_short_and_keeps_its_fingerprint() -> None:
    rows = 4_000
    towns = [f"town {step * 7919 % 1000}" for step in range(rows)]
    features = fitted(pa.table({"town": towns, "size": [step / 7 for step in range(rows)], "target": range(rows)}))

    left, table = packed(features.to_json())
    text = json.dumps(left)

    assert table is not None
    assert len(text) < 2_000 < len(json.dumps(features.to_json()))
    again = FittedFeatureSet.from_json(unpacked(json.loads(text), from_bytes(to_bytes(table))))
    assert again == features
    assert again.fingerprint == features.fingerprint


@pytest.mark.parametrize(
    ("pointer", "words"),
    [
        ({"$arrow": "other", "type": "string", "length": 300}, "points to 'other', which its Arrow file does not hold"),
        ({"$arrow": "levels", "type": "string", "length": 299}, "'levels' must have 299 elements and has 300"),
    ],
)
def test_a_pointer_that_does_not_fit_is_refused(pointer: dict[str, Any], words: str) -> None:
    _, table = packed({"levels": ["x"] * 300})

    with pytest.raises(SchemaError, match=words):
        unpacked({"levels": pointer}, table)


def test_a_state_without_its_arrow_file_is_refused() -> None:
    left, _ = packed({"levels": ["x"] * 300})

    with pytest.raises(SchemaError, match="does not hold"):
        unpacked(left, None)


@pytest.mark.parametrize("cut", [0, 10, -20])
def test_a_cut_arrow_file_is_refused(cut: int) -> None:
    _, table = packed({"levels": ["x"] * 300})
    assert table is not None

    with pytest.raises(SchemaError, match="Arrow file is damaged"):
        from_bytes(to_bytes(table)[:cut])
