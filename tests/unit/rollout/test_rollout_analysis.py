"""Verdicts of one measurement: what decides, what does not, and the words of the reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.config import MetricCondition
from rayline.rollout.analysis.analysis import Measurement, judge, label
from rayline.serving.records.observation import ArmStats
from rollout_doubles import arm

NAMES = ("stable v2", "canary v3")


def condition(measure: str, minimum: int = 50, **bounds: float) -> MetricCondition:
    return MetricCondition(measure=measure, minimum_samples=minimum, **bounds)


def judged(case: MetricCondition, stable: ArmStats, canary: ArmStats) -> Measurement:
    return judge(case, stable, canary, names=NAMES)


def test_accuracy_that_fell_fails_with_both_numbers() -> None:
    found = judged(
        condition("accuracy", max_decrease=0.05),
        arm(900, feedback=900, correct=873),
        arm(100, feedback=100, correct=41),
    )
    assert found.verdict == "Failed"
    assert found.reason == "accuracy of canary v3 0.41 < stable v2 0.97 - 0.05 (n = 100 and 900)"
    assert (found.value, found.baseline) == (0.41, 0.97)


def test_accuracy_that_holds_succeeds_with_both_numbers() -> None:
    found = judged(
        condition("accuracy", max_decrease=0.05),
        arm(900, feedback=900, correct=873),
        arm(100, feedback=100, correct=92),
    )
    assert found.verdict == "Successful"
    assert found.reason == "accuracy of canary v3 0.92 >= stable v2 0.97 - 0.05 (n = 100 and 900)"


def test_a_little_too_low_decides_nothing() -> None:
    found = judged(
        condition("accuracy", max_decrease=0.05),
        arm(900, feedback=900, correct=873),
        arm(100, feedback=100, correct=90),
    )
    assert found.verdict == "Inconclusive"
    assert found.reason == (
        "accuracy of canary v3 0.9 < stable v2 0.97 - 0.05 (n = 100 and 900), which chance could explain"
    )


def test_one_error_in_three_requests_decides_nothing() -> None:
    found = judged(condition("error_rate", minimum=3, max=0.01, max_increase=0.0), arm(27), arm(3, errors=1))
    assert found.verdict == "Inconclusive"


def test_many_errors_fail_whatever_stable_does() -> None:
    found = judged(condition("error_rate", max=0.01), arm(0), arm(60, errors=12))
    assert found.verdict == "Failed"
    assert found.reason == "error rate of canary v3 0.2 > 0.01 (n = 60)"


def test_a_slow_canary_fails_by_ratio_and_by_increase() -> None:
    fast, slow = arm(500, seconds=0.01), arm(60, seconds=0.4)
    by_ratio = judged(condition("latency", max_ratio=2.0), fast, slow)
    by_increase = judged(condition("latency", max_increase=0.25), fast, slow)
    assert (by_ratio.verdict, by_increase.verdict) == ("Failed", "Failed")
    assert by_ratio.reason.startswith("p95 latency of canary v3 0.")
    assert " s > stable v2 0.01" in by_ratio.reason
    assert by_ratio.reason.endswith(" s x 2 (n = 60 and 500)")
    assert by_increase.reason.endswith(" s + 0.25 s (n = 60 and 500)")


def test_as_fast_as_stable_succeeds() -> None:
    found = judged(condition("latency", max_ratio=2.0, max=1.0), arm(500), arm(60))
    assert found.verdict == "Successful"


def test_other_predictions_fail() -> None:
    found = judged(
        condition("prediction_shift", max=0.3),
        arm(500, labels={"yes": 250, "no": 250}),
        arm(100, labels={"yes": 100}),
    )
    assert found.verdict == "Failed"
    # D of (1, 0) and (0.5, 0.5) is 0.311278; less (1/100 + 1/500) / (8 ln 2) = 0.002164; its root is 0.55598.
    assert found.reason == "prediction shift of canary v3 from stable v2 0.556 > 0.3 (n = 100 and 500)"


def test_larger_errors_fail() -> None:
    found = judged(
        condition("mean_absolute_error", max_ratio=1.5),
        arm(500, feedback=400, absolute_error=400.0),
        arm(60, feedback=60, absolute_error=180.0),
    )
    # The canary's lower bound is 3 / exp(2.326 / sqrt(60)) = 2.2217; stable's upper 1 x exp(2.326 / 20) = 1.1234:
    # 3 - 1.5 - hypot(0.7783, 1.5 x 0.1234) = 0.7 > 0.
    assert found.verdict == "Failed"
    assert found.reason == "mean absolute error of canary v3 3 > stable v2 1 x 1.5 (n = 60 and 400)"


def test_the_worst_of_several_limits_counts() -> None:
    found = judged(condition("error_rate", max=0.5, max_increase=0.01), arm(900), arm(100, errors=30))
    assert found.verdict == "Failed"
    assert "stable v2 0 + 0.01" in found.reason


def test_an_error_that_is_no_number_is_an_error_and_no_verdict() -> None:
    sick = arm(60, feedback=60, absolute_error=float("nan"))
    found = judged(condition("mean_absolute_error", max=1.0), arm(60), sick)
    assert found.verdict == "Error"
    assert "not a finite number" in found.reason


@pytest.mark.parametrize("measure", ["error_rate", "latency", "prediction_shift", "accuracy", "mean_absolute_error"])
def test_no_traffic_is_no_verdict(measure: str) -> None:
    bounds = {"accuracy": {"max_decrease": 0.5}, "prediction_shift": {"max": 0.9}}.get(measure, {"max_increase": 9.0})
    for stable, canary in ((arm(), arm()), (arm(900, feedback=900), arm()), (arm(), arm(900, feedback=900))):
        found = judged(condition(measure, **bounds), stable, canary)
        assert found.verdict == "Inconclusive"
        assert "too few samples" in found.reason
        assert "minimum 50" in found.reason


@given(
    minimum=st.integers(2, 100),
    canary=st.integers(0, 200),
    stable=st.integers(0, 200),
    wrong=st.floats(0, 1),
)
def test_fewer_than_the_minimum_never_decides(minimum: int, canary: int, stable: int, wrong: float) -> None:
    arms = [arm(n, errors=int(n * wrong), feedback=n, correct=n - int(n * wrong)) for n in (stable, canary)]
    for case in (
        condition("error_rate", minimum=minimum, max_increase=0.1),
        condition("accuracy", minimum=minimum, max_decrease=0.1),
    ):
        verdict = judged(case, *arms).verdict
        if min(canary, stable) < minimum:
            assert verdict == "Inconclusive"
        else:
            assert verdict in ("Successful", "Failed", "Inconclusive")


@given(st.integers(50, 500), st.integers(0, 500))
def test_a_canary_as_good_as_stable_never_fails(n: int, hits: int) -> None:
    same = arm(n, errors=min(n, hits), feedback=n, correct=min(n, hits))
    for case in (
        condition("error_rate", max_increase=0.0),
        condition("error_rate", max_ratio=1.0),
        condition("latency", max_ratio=1.0),
        condition("accuracy", max_decrease=0.0),
        condition("prediction_shift", max=0.0),
    ):
        assert judged(case, same, same).verdict == "Successful"


def test_labels_are_words() -> None:
    assert label(condition("latency", max=1.0)) == "p95 latency"
    assert label(MetricCondition(measure="latency", quantile=0.999, max=1.0)) == "p99.9 latency"
    assert label(condition("error_rate", max=1.0)) == "error rate"
