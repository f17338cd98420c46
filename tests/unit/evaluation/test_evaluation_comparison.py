"""A version beside the champion: the same rows in any order give the same verdict, and slices are judged apart."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.config import EvaluateConfig, GateConfig, SliceConfig
from rayline.errors import ConfigError
from rayline.evaluation.comparison import Answers, check, judged, sample_of
from rayline.features.schemas.schema import ColumnSchema, Schema
from rayline.registry.predictor import Predictions

CHAMPION = "champion v1"
ON_RMSE = GateConfig(metric="rmse", compare="champion", margin=1.0)
ON_SLICES = GateConfig(metric="rmse", compare="champion", margin=1.0, slice="weather")
SCHEMA = Schema((ColumnSchema("weather", "categorical"), ColumnSchema("temp", "numeric")), "cnt", "regression")


def regression(rows: int, seed: int, worse: float = 0.0, on: str | None = None) -> tuple[Answers, pa.Table]:
    """Truth, a champion off by about 5, and a version that is off by ``worse`` more, everywhere or in one slice."""
    chance = np.random.default_rng(seed)
    weather = chance.choice(["dry", "rain", "snow"], size=rows, p=[0.6, 0.37, 0.03])
    truth = chance.normal(100, 30, rows)
    error = chance.normal(0, 5, rows)
    more = np.where(np.full(rows, on is None) | (weather == on), worse, 0.0)
    version = Predictions(truth + error + np.sign(error) * more, None, None)
    return Answers("regression", truth, version, Predictions(truth + error, None, None)), pa.table({"weather": weather})


def verdicts(gate: GateConfig, answers: Answers, table: pa.Table) -> dict[str, str]:
    config = EvaluateConfig(gates=(gate,), bootstrap=200)
    return {each.where: each.verdict for each in judged(config, answers, table, CHAMPION)}


def test_a_version_that_is_worse_on_one_slice_fails_there_only() -> None:
    answers, table = regression(2_000, 0, worse=6.0, on="rain")
    found = verdicts(ON_SLICES, answers, table)
    assert found == {"weather=dry": "passed", "weather=rain": "failed", "weather=snow": found["weather=snow"]}
    few, small = regression(200, 0, worse=6.0, on="snow")
    assert verdicts(ON_SLICES, few, small)["weather=snow"] == "inconclusive"


def test_a_slice_that_is_not_there_decides_nothing() -> None:
    answers, table = regression(500, 1)
    one = GateConfig(metric="rmse", compare="champion", slice="weather", value="hail")
    [found] = judged(EvaluateConfig(gates=(one,)), answers, table, CHAMPION)
    assert (found.where, found.verdict, found.rows, found.stops) == ("weather=hail", "inconclusive", 0, True)


def test_every_slice_is_each_one_that_the_configuration_names() -> None:
    answers, table = regression(500, 1)
    every = GateConfig(metric="rmse", at_most=50.0, slice="*")
    config = EvaluateConfig(gates=(every,), slices=(SliceConfig(column="weather"),), bootstrap=200)
    found = {each.where: each.verdict for each in judged(config, answers, table, "")}
    assert (found["weather=dry"], found["weather=rain"], found["weather=snow"]) == ("passed", "passed", "inconclusive")


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), worse=st.floats(0, 4), rows=st.integers(1, 300))
def test_the_order_of_the_rows_changes_nothing(seed: int, worse: float, rows: int) -> None:
    answers, table = regression(rows, seed, worse)
    order = np.random.default_rng(seed + 1).permutation(rows)
    assert answers.champion is not None
    shuffled = Answers(
        "regression",
        answers.truth[order],
        Predictions(answers.version.values[order], None, None),
        Predictions(answers.champion.values[order], None, None),
    )
    here = sample_of(ON_RMSE, answers, None, "", 1, 100, True)
    there = sample_of(ON_RMSE, shuffled, None, "", 1, 100, True)
    assert here == there or (np.isnan(here.low) and np.isnan(there.low))
    assert verdicts(ON_RMSE, answers, table) == verdicts(ON_RMSE, shuffled, table.take(order))


def test_no_gates_given_asks_not_to_be_worse_than_the_champion() -> None:
    answers, table = regression(1_000, 2, worse=3.0)
    [found] = judged(EvaluateConfig(), answers, table, CHAMPION)
    assert (found.what, found.verdict) == ("rmse", "failed")
    [first] = judged(EvaluateConfig(), answers, table, "")
    assert first.verdict == "passed"
    assert judged(EvaluateConfig(gates=()), answers, table, CHAMPION) == ()


def test_a_champion_that_cannot_answer_gives_no_verdict_and_says_why() -> None:
    answers, table = regression(500, 2)
    silent = Answers("regression", answers.truth, answers.version, None, "the champion cannot answer: no column 'x'")
    [found] = judged(EvaluateConfig(), silent, table, CHAMPION)
    assert (found.verdict, found.stops) == ("inconclusive", False), "nobody asked for the default gate"
    assert "no column 'x'" in found.reason
    [asked] = judged(EvaluateConfig(gates=(ON_RMSE,)), silent, table, CHAMPION)
    assert (asked.verdict, asked.stops) == ("inconclusive", True)


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (GateConfig(metric="accuracy", at_least=0.9), "metric 'accuracy' is unknown for a regression task"),
        (GateConfig(metric="rsme", at_most=0.9), r"Did you mean 'rmse'\?"),
        (GateConfig(metric="rmse", at_most=1, slice="wether"), r"column 'wether'.*'weather'"),
        (GateConfig(metric="bias", compare="champion"), "should be near zero"),
    ],
)
def test_a_gate_on_what_is_not_there_names_the_nearest(gate: GateConfig, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check(EvaluateConfig(gates=(gate,)), SCHEMA, ["weather", "temp"])
