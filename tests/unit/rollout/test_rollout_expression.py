"""Conditions as expressions: what they may say, what they are asked, and what never runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.config import MetricCondition
from rayline.errors import ConfigError
from rayline.rollout.analysis.analysis import judge
from rayline.rollout.analysis.expression import Expression
from rollout_doubles import arm


def at(value: float, stable: float = 1.0) -> dict[str, tuple[float, float]]:
    return {"canary": (value, value), "stable": (stable, stable)}


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("result <= 0.05", 0.05, True),
        ("result < 0.05", 0.05, False),
        ("result <= stable * 1.2 + 0.1", 1.3, True),
        ("result / 2 > stable - 0.5", 1.0, False),
        ("0 < result < 2 and not stable > 3", 1.0, True),
        ("result > 5 or -stable >= -1", 1.0, True),
        ("canary - stable <= 0.1", 1.05, True),
    ],
)
def test_an_expression_says_what_it_says(text: str, value: float, holds: bool) -> None:
    assert Expression.parse(text, "success_condition").holds(at(value)) is holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resul <= 1", "'resul' is unknown. Did you mean 'result'"),
        ("__import__('os').system('touch x') < result", "is not allowed"),
        ("result.real < 1", "'result.real' is not allowed"),
        ("result[0] < 1", "is not allowed"),
        ("result ** 9 < 1", "is not allowed"),
        ("(lambda: result)() < 1", "is not allowed"),
        ("result == 1", "compared by <, <=, > or >= only"),
        ("result in [1]", "compared by"),
        ("result + 1", "must be true or false"),
        ("1 < 2", "speaks of nothing measured"),
        ("result <", "is no expression"),
        ("result < 'a'", "is not allowed"),
        ("result < True", "is not allowed"),
        ("result < " + "1 + " * 300 + "1", "at most 500 characters"),
    ],
)
def test_anything_else_is_refused_and_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Expression.parse(text, "success_condition")


@given(
    low=st.floats(-5, 5), wide=st.floats(0, 3), base=st.floats(-5, 5), base_wide=st.floats(0, 3), inside=st.floats(0, 1)
)
def test_an_answer_for_a_range_is_the_answer_for_every_value_in_it(
    low: float, wide: float, base: float, base_wide: float, inside: float
) -> None:
    ranges = {"canary": (low, low + wide), "stable": (base, base + base_wide)}
    point = at(low + inside * wide, base + inside * base_wide)
    for text in (
        "result <= stable * 1.2",
        "result > 1 or stable < 0",
        "not result - stable >= 0.5",
        "result / stable < 2",
    ):
        expression = Expression.parse(text, "x")
        sure = expression.holds(ranges)
        if sure is not None and point["stable"][0] != 0:
            assert expression.holds(point) is sure


def test_a_condition_in_words_fails_only_where_chance_cannot_explain_it() -> None:
    condition = MetricCondition(
        measure="error_rate", success_condition="result <= stable * 2 + 0.01", minimum_samples=3
    )
    few = judge(condition, arm(27), arm(3, errors=1))
    many = judge(condition, arm(900), arm(300, errors=100))
    fine = judge(condition, arm(900), arm(300))
    assert (few.verdict, many.verdict, fine.verdict) == ("Inconclusive", "Failed", "Successful")
    assert "0.3333 with stable 0 does not meet success_condition result <= stable * 2 + 0.01" in many.reason


def test_between_success_and_failure_nothing_is_decided() -> None:
    condition = MetricCondition(
        measure="error_rate", success_condition="result <= 0.01", failure_condition="result > 0.2", minimum_samples=3
    )
    assert judge(condition, arm(), arm(1000, errors=100)).verdict == "Inconclusive"
    assert judge(condition, arm(), arm(1000, errors=400)).verdict == "Failed"
