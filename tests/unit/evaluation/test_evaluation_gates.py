"""Gates: what is measured gives a verdict with its inequality, and never one without data."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.config import GateConfig
from rayline.evaluation.gates import Judgement, Sample, behaved, default_gates, from_json, judge, summary, to_json

ON_RMSE = GateConfig(metric="rmse", compare="champion", margin=2.0)
CHAMPION = "champion v3"
numbers = st.floats(0.0, 1e6)
reaches = st.floats(1e-3, 1e4)
rows = st.integers(30, 10_000)


def compared(value: float, champion: float, reach: float, count: int = 212, where: str = "") -> Sample:
    apart = value - champion
    return Sample(where, count, value, champion, apart - reach, apart + reach)


def judged(gate: GateConfig, sample: Sample, better: str = "min", least: int = 30) -> tuple[str, str]:
    found = judge(gate, better, sample, baseline=CHAMPION, min_rows=least)  # type: ignore[arg-type]
    return found.verdict, found.told("version 4")


def test_a_worse_slice_fails_with_an_inequality_that_a_person_can_check() -> None:
    verdict, told = judged(ON_RMSE, compared(61.2, 48.0, 5.0, where="weathersit=3"))
    assert verdict == "failed"
    assert told == "rmse of version 4 on weathersit=3 (n = 212) 61.2 > champion v3 48 + 2"


@pytest.mark.parametrize(
    ("gate", "better", "sample", "verdict", "words"),
    [
        (ON_RMSE, "min", compared(49.0, 48.0, 0.5), "passed", "49 <= champion v3 48 + 2"),
        (ON_RMSE, "min", compared(51.0, 48.0, 9.0), "inconclusive", "51 > champion v3 48 + 2, which chance could"),
        (
            GateConfig(metric="accuracy", compare="champion", margin=0.02),
            "max",
            compared(0.9, 0.95, 0.01),
            "failed",
            "0.9 < champion v3 0.95 - 0.02",
        ),
        (
            GateConfig(metric="rmse", compare="champion", relative_margin=0.05),
            "min",
            compared(52.0, 50.0, 0.1),
            "passed",
            "52 <= champion v3 50 + 5 %",
        ),
        (GateConfig(metric="f1", at_least=0.9), "max", Sample("", 99, 0.8, None, 0.7, 0.85), "failed", "0.8 < 0.9"),
        (GateConfig(metric="mae", at_most=5), "min", Sample("", 99, 4.0, None, 3.0, 9.0), "passed", "4 <= 5"),
        (GateConfig(metric="bias", at_most=5), "zero", Sample("", 99, -8.0, None, -9.0, -7.0), "failed", "|-8| > 5"),
        (
            GateConfig(metric="mae", at_most=5, proven=True),
            "min",
            Sample("", 99, 4.0, None, 3.0, 9.0),
            "inconclusive",
            "4 <= 5, which chance could explain; about 2,475 rows would decide",
        ),
    ],
)
def test_a_verdict_and_its_words(gate: GateConfig, better: str, sample: Sample, verdict: str, words: str) -> None:
    found, told = judged(gate, sample, better)
    assert found == verdict
    assert words in told


@given(value=numbers, champion=numbers, reach=reaches, count=st.integers(0, 29))
def test_too_few_rows_never_decide(value: float, champion: float, reach: float, count: int) -> None:
    found = judge(ON_RMSE, "min", compared(value, champion, reach, count), baseline=CHAMPION, min_rows=30)
    assert found.verdict == "inconclusive"
    assert (found.rows, found.needed) == (count, 30)
    assert found.stops


@given(value=st.none() | st.just(math.nan) | st.just(math.inf), champion=st.none() | numbers, count=rows)
def test_no_value_never_passes(value: float | None, champion: float | None, count: int) -> None:
    sample = Sample("", count, value, champion, math.nan, math.nan, "no such class")
    verdict, told = judged(ON_RMSE, sample)
    assert verdict == "inconclusive"
    assert "no such class" in told


@given(champion=numbers, better_by=numbers, reach=reaches, count=rows)
def test_a_better_model_with_enough_rows_passes(champion: float, better_by: float, reach: float, count: int) -> None:
    assert judged(ON_RMSE, compared(champion - better_by, champion, reach, count))[0] == "passed"


@given(champion=st.floats(0, 1e4), margin=st.floats(0, 1e3), beyond=st.floats(-1e3, 1e3), reach=reaches)
def test_the_margin_is_what_may_be_lost(champion: float, margin: float, beyond: float, reach: float) -> None:
    """Within the margin: passed. Beyond it: failed where chance cannot explain it, and never passed."""
    gate = GateConfig(metric="rmse", compare="champion", margin=margin)
    verdict, _ = judged(gate, compared(champion + margin + beyond, champion, reach))
    if beyond > 1e-6:
        assert verdict == ("failed" if beyond > reach + 1e-6 else verdict)
        assert verdict != "passed"
    elif beyond < -1e-6:
        assert verdict == "passed"


@given(champion=st.floats(0, 1), value=st.floats(0, 1), reach=st.floats(1e-3, 1))
def test_more_and_less_of_a_metric_are_judged_alike(champion: float, value: float, reach: float) -> None:
    gate = GateConfig(metric="x", compare="champion", margin=0.05)
    up = judged(gate, compared(value, champion, reach), "max")[0]
    down = judged(gate, compared(-value, -champion, reach), "min")[0]
    assert up == down


def test_the_first_version_has_no_baseline_and_says_so() -> None:
    found = judge(ON_RMSE, "min", Sample("", 500, None), baseline="", min_rows=30)
    assert (found.verdict, found.stops) == ("passed", False)
    assert "no baseline" in found.told("version 1")


def test_in_all_slices_of_a_column_an_open_question_is_told_and_stops_nothing() -> None:
    every = GateConfig(metric="rmse", compare="champion", margin=2.0, slice="weathersit")
    small = compared(99.0, 48.0, 5.0, count=3, where="weathersit=4")
    assert not judge(every, "min", small, baseline=CHAMPION, min_rows=50).stops
    strict = GateConfig(metric="rmse", compare="champion", slice="weathersit", inconclusive="stop")
    assert judge(strict, "min", small, baseline=CHAMPION, min_rows=50).stops
    one = GateConfig(metric="rmse", compare="champion", slice="weathersit", value="4")
    assert judge(one, "min", small, baseline=CHAMPION, min_rows=50).stops


def test_a_judgement_comes_back_from_json_and_tells_itself_in_a_line() -> None:
    failed = judge(ON_RMSE, "min", compared(61.2, 48.0, 5.0), baseline=CHAMPION, min_rows=30)
    moved = behaved("t", 99, 100, at_least=0.95, min_rows=30, rule="stays", worst="")
    judgement = Judgement(3, "abc", (failed,), (moved,), ("a note",))
    assert from_json(to_json(judgement)) == judgement
    assert not judgement.blessed
    assert summary(judgement) == "not blessed: 1 passed, 1 failed of 2 (against champion v3)"
    assert summary(Judgement(None, None, ())) == "blessed: no gates are asked"


@given(held=st.integers(0, 200), tried=st.integers(0, 200), share=st.floats(0.01, 1), least=st.integers(1, 100))
def test_a_behavioural_test_needs_its_share_of_enough_rows(held: int, tried: int, share: float, least: int) -> None:
    held = min(held, tried)
    found = behaved("t", held, tried, at_least=share, min_rows=least, rule="stays", worst="row 3")
    if tried < least:
        assert found.verdict == "inconclusive"
    else:
        assert (found.verdict == "passed") == (held / tried >= share - 1e-12)
    assert found.stops == (found.verdict != "passed")


def test_what_is_asked_by_default_allows_a_little() -> None:
    assert default_gates("accuracy", "max")[0].margin == 0.02
    assert default_gates("rmse", "min")[0].relative_margin == 0.05
