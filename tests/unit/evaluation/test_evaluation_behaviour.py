"""Behavioural tests: inputs are changed, and answers must stay or move in one direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rayline.config import DirectionConfig, InvarianceConfig
from rayline.errors import ConfigError
from rayline.evaluation.behaviour import behave
from rayline.registry.predictor import Predictor
from registry_examples import fitted

ROWS = 200
chance = np.random.default_rng(0)
TABLE = pa.table(
    {
        "size": pa.array([None if row % 20 == 0 else value for row, value in enumerate(chance.normal(size=ROWS))]),
        "count": pa.array(chance.integers(0, 50, ROWS)),
        "town": pa.array([f"town {row // 3 % 4}" for row in range(ROWS)]),
        "target": pa.array(["big" if row % 2 else "small" for row in range(ROWS)]),
    }
)
NUMBERS = TABLE.set_column(3, "target", pa.array(np.arange(ROWS) * 1.5))


def answering(table: pa.Table, say: Callable[[Any], Any]) -> Predictor:
    """Answer by a function of the features by name: logits (n,), or standardised values."""
    features = fitted(table)
    names = list(features.output_names)

    class By:
        def __call__(self, matrix: Any) -> Any:
            return np.asarray(say({name: matrix[:, place] for place, name in enumerate(names)}))[:, np.newaxis] * 1.0

    return Predictor(features, By())  # type: ignore[arg-type]


def test_a_number_that_raises_the_answer_passes_and_the_other_direction_fails() -> None:
    predictor = answering(TABLE, lambda x: 2 * x["size"])
    up = DirectionConfig(column="size", add=1.0, expect="higher", label="small")
    down = DirectionConfig(column="size", add=1.0, expect="not_higher", label="small")
    passed, failed = behave(predictor, TABLE, (up, down))
    assert (passed.verdict, passed.rows) == ("passed", 190), "rows without the number are left out"
    assert failed.verdict == "failed"
    assert "; worst: row " in failed.reason
    assert "with size = " in failed.reason
    assert failed.told("version 2").startswith("version 2, direction of size (n = 190): ")


def test_a_small_step_the_wrong_way_is_forgiven_within() -> None:
    predictor = answering(NUMBERS, lambda x: -0.01 * x["size"])
    strict, lax = behave(
        predictor,
        NUMBERS,
        (
            DirectionConfig(column="size", add=1.0, expect="not_lower"),
            DirectionConfig(column="size", add=1.0, expect="not_lower", within=5.0),
        ),
    )
    assert (strict.verdict, lax.verdict) == ("failed", "passed")


def test_whole_numbers_stay_whole_and_may_be_raised_by_a_part() -> None:
    predictor = answering(NUMBERS, lambda x: x["count"])
    tests = tuple(DirectionConfig(column="count", add=add, expect="higher") for add in (1.0, 0.5))
    assert [each.verdict for each in behave(predictor, NUMBERS, tests)] == ["passed", "passed"]


def test_what_the_model_does_not_look_at_changes_nothing() -> None:
    predictor = answering(TABLE, lambda x: 3 * x["size"])
    dealt, fixed, looked_at = behave(
        predictor,
        TABLE,
        (
            InvarianceConfig(columns=("town",), within=0.0),
            InvarianceConfig(to={"town": "town 1"}),
            InvarianceConfig(columns=("size",), within=0.1, name="size does not matter"),
        ),
    )
    assert (dealt.verdict, fixed.verdict, looked_at.verdict) == ("passed", "passed", "failed")
    assert looked_at.what == "size does not matter"
    assert looked_at.stops


def test_a_value_that_the_model_looks_at_changes_the_label() -> None:
    predictor = answering(TABLE, lambda x: 5 * x["town=town 1"] - 2)
    [found] = behave(predictor, TABLE, (InvarianceConfig(to={"town": "town 1"}, at_least=0.9),))
    assert (found.verdict, round(found.value or 0, 3)) == ("failed", 0.255)


def test_too_few_rows_decide_nothing() -> None:
    predictor = answering(TABLE, lambda x: x["size"])
    [found] = behave(predictor, TABLE[:20], (InvarianceConfig(columns=("town",)),))
    assert (found.verdict, found.rows, found.needed) == ("inconclusive", 20, 30)


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (InvarianceConfig(columns=("twon",)), r"column 'twon' is no input of the model. Did you mean 'town'\?"),
        (DirectionConfig(column="town", add=1.0, expect="higher", label="big"), "'town' is categorical"),
        (DirectionConfig(column="size", add=1.0, expect="higher"), "which class of 'target'"),
        (DirectionConfig(column="size", add=1.0, expect="higher", label="bigg"), r"Did you mean 'big'\?"),
        (InvarianceConfig(to={"count": "many"}), r"to.count is 'many', and the column holds int64"),
    ],
)
def test_a_test_of_what_is_not_there_names_the_nearest(test: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        behave(answering(TABLE, lambda x: x["size"]), TABLE, (test,))


def test_a_regression_must_say_how_much_may_change() -> None:
    with pytest.raises(ConfigError, match="Add within"):
        behave(answering(NUMBERS, lambda x: x["size"]), NUMBERS, (InvarianceConfig(columns=("town",)),))
