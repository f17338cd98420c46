"""One text for one level, one instant for one date."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.features.reading.canonical import instant, level_order, level_text, number, truth


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        ("1", "1"),
        ("1.0", "1"),
        ("01", "1"),
        ("-0", "0"),
        (-0.0, "0"),
        (1.5, "1.5"),
        ("1.50", "1.5"),
        (Decimal("2.0"), "2"),
        (np.int64(3), "3"),
        (np.float32(4.0), "4"),
        (np.True_, "true"),
        (True, "true"),
        (False, "false"),
        ("a b", "a b"),
        ("+", "+"),
        ("1e999", "1e999"),
        ("9" * 50, "9" * 50),
        (date(2011, 1, 2), "2011-01-02"),
        (None, None),
        ("", None),
        (math.nan, None),
    ],
)
def test_a_level_has_one_text(value: object, text: str | None) -> None:
    assert level_text(value) == text


@pytest.mark.parametrize("value", [math.inf, -math.inf, [1], {"a": 1}, object()])
def test_what_is_no_level_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"no scalar|infinite"):
        level_text(value)


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.booleans()))
def test_the_canonical_text_is_its_own_canonical_text(value: object) -> None:
    text = level_text(value)
    assert text is None or level_text(text) == text


@given(st.integers(min_value=-(2**53), max_value=2**53))
def test_an_integer_is_one_level_in_every_type(value: int) -> None:
    assert level_text(value) == level_text(float(value)) == level_text(str(value)) == str(value)


def test_levels_sort_numbers_by_value_before_texts() -> None:
    assert sorted(["b", "10", "9", "a", "-1", "2.5"], key=level_order) == ["-1", "2.5", "9", "10", "a", "b"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (0, False), (1.0, True), ("true", True), ("False", False), ("1", True), (None, None), ("", None)],
)
def test_a_boolean_is_read(value: object, expected: bool | None) -> None:
    assert truth(value) is expected


@pytest.mark.parametrize("value", [2, "yes", -1.0, [], object()])
def test_what_is_no_boolean_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="no boolean"):
        truth(value)


@pytest.mark.parametrize(
    "value",
    [
        "2011-01-02",
        "2011-01-02T00:00",
        "2011-01-02 00:00:00",
        "2011-01-02T00:00:00Z",
        "2011-01-02T02:00:00+02:00",
        date(2011, 1, 2),
        datetime(2011, 1, 2),
        datetime(2011, 1, 2, tzinfo=UTC),
        datetime(2011, 1, 1, 19, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_an_instant_is_one_number_in_every_notation(value: object) -> None:
    assert instant(value) == 1_293_926_400_000_000


@pytest.mark.parametrize("value", ["2011-13-01", "yesterday", 5, True])
def test_what_is_no_instant_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"no date|month must be|Invalid isoformat"):
        instant(value)


def test_a_number_is_no_text_and_nan_is_missing() -> None:
    assert number(np.float32(1.5)) == 1.5
    assert number(math.nan) is None
    with pytest.raises(ValueError, match="no number"):
        number("1")
    with pytest.raises(OverflowError):
        number(10**400)
