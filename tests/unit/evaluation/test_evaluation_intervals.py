"""The bootstrap: how often intervals hold the truth, and how sure a difference of two models is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation_examples import TASKS, answered, of_chances, of_numbers
from rayline.config import Task
from rayline.errors import UsageError
from rayline.evaluation import intervals
from rayline.evaluation.intervals import bootstrap, paired
from rayline.evaluation.scores import score, scores_of

WORLDS = 200  # simulated test parts: the share of 200 strays 2.3 standard errors, 0.05, below 0.9 once in a hundred


def held(task: Task, name: str, wanted: float, rows: int) -> float:
    """The share of simulated test parts whose 90 % interval of a score holds its true value."""
    hits = 0
    for seed in range(WORLDS):
        truth, predictions = answered(task, rows, seed)
        found = bootstrap([name], task, truth, predictions, resamples=300, confidence=0.9)[name]
        hits += found.low <= wanted <= found.high
    return hits / WORLDS


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("binary", "accuracy"),
        ("binary", "roc_auc"),
        ("binary", "log_loss"),
        ("multiclass", "f1_macro"),
        ("regression", "rmse"),
        ("regression", "median_absolute_error"),
        ("regression", "r2"),
    ],
)
def test_an_interval_holds_the_true_score_as_often_as_it_says(task: Task, name: str) -> None:
    wanted = score(name, task, *answered(task, 400_000, seed=999_999))

    share = held(task, name, wanted, rows=150)

    assert 0.83 < share < 0.96


@pytest.mark.parametrize("task", TASKS)
def test_each_interval_is_about_the_score_of_all_rows_and_the_same_for_the_same_seed(task: Task) -> None:
    truth, predictions = answered(task, 300)

    found = bootstrap(scores_of(task), task, truth, predictions, resamples=200)

    assert tuple(found) == scores_of(task)
    for name, each in found.items():
        assert each.value == pytest.approx(score(name, task, truth, predictions))
        assert each.low < each.value < each.high
    assert bootstrap(scores_of(task), task, truth, predictions, resamples=200) == found
    assert bootstrap(scores_of(task), task, truth, predictions, resamples=200, seed=1) != found


def test_more_rows_and_less_confidence_make_it_narrower() -> None:
    truth, predictions = answered("regression", 4_000)
    some = np.arange(0, 4_000, 16)

    def width(rows: np.ndarray | None, confidence: float) -> float:
        found = bootstrap(["mae"], "regression", truth, predictions, rows, confidence=confidence)["mae"]
        return found.high - found.low

    assert width(some, 0.95) == pytest.approx(4 * width(None, 0.95), rel=0.25)
    assert width(None, 0.5) < 0.5 * width(None, 0.95)


@pytest.mark.parametrize("task", TASKS)
def test_groups_and_few_resamples_keep_the_width(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions = answered(task, 3_000)
    exact = bootstrap(scores_of(task), task, truth, predictions)
    monkeypatch.setattr(intervals, "UNITS", 500)
    monkeypatch.setattr(intervals, "PASSES", 1)

    fast = bootstrap(scores_of(task), task, truth, predictions)

    for name, each in exact.items():
        assert fast[name].value == pytest.approx(each.value)
        assert fast[name].high - fast[name].low == pytest.approx(each.high - each.low, rel=0.25), name


def test_a_score_without_a_single_error_is_still_not_certain() -> None:
    truth = np.arange(60) % 2
    sure = of_chances(np.where(truth[:, None] == [0, 1], 0.99, 0.01))

    found = bootstrap(["accuracy", "roc_auc", "recall"], "binary", truth, sure, confidence=0.9)

    # No error in 30 rows of a class: an error rate of 1 - 0.05 ** (1 / 30) would still show none once in 20.
    for each in found.values():
        assert (each.value, each.high) == (1, 1)
        assert each.low == pytest.approx(0.05 ** (1 / 30))


def test_what_rows_leave_undefined_has_no_interval() -> None:
    truth, predictions = answered("binary", 50)

    of_one_class = bootstrap(scores_of("binary"), "binary", truth, predictions, np.flatnonzero(truth == 0))

    assert "roc_auc" not in of_one_class
    assert "accuracy" in of_one_class
    assert bootstrap(["mae"], "regression", np.zeros(0), of_numbers(np.zeros(0))) == {}
    one = bootstrap(["mae"], "regression", np.ones(1), of_numbers(np.zeros(1)))["mae"]
    assert (one.value, one.low, one.high) == (1, 1, 1)


def test_two_models_on_the_same_rows_differ_more_surely_than_apart() -> None:
    truth, first = answered("regression", 500)
    second = of_numbers(first.values + np.sign(first.values - truth) * 0.05)

    found = paired("mae", "regression", truth, first, second)
    apart = bootstrap(["mae"], "regression", truth, first)["mae"]

    assert found.value == pytest.approx(-0.05)
    assert found.rows == 500
    assert found.high - found.low < 0.1 * (apart.high - apart.low)
    other_way = paired("mae", "regression", truth, second, first)
    assert other_way.value == pytest.approx(0.05)


def test_a_one_sided_bound_of_no_difference_errs_as_often_as_it_says() -> None:
    above = below = 0
    for seed in range(WORLDS):
        truth, first = answered("binary", 150, seed)
        random = np.random.default_rng(seed + 5_000)
        logits = random.normal(size=(150, 2))
        logits[np.arange(150), truth] += 1
        chances = np.exp(logits)
        second = of_chances(chances / chances.sum(axis=1, keepdims=True))
        found = paired("log_loss", "binary", truth, first, second, resamples=300, confidence=0.9)
        above += found.low > 0
        below += found.high < 0

    assert 0.04 < above / WORLDS < 0.17
    assert 0.04 < below / WORLDS < 0.17


def test_the_same_answers_do_not_differ() -> None:
    truth, predictions = answered("multiclass", 80)

    found = paired("f1_macro", "multiclass", truth, predictions, predictions, np.arange(40))

    assert (found.value, found.low, found.high, found.rows) == (0, 0, 0, 40)


def test_a_difference_without_rows_or_definition_is_nan() -> None:
    truth, predictions = answered("binary", 30)

    nothing = paired("accuracy", "binary", truth, predictions, predictions, np.zeros(0, dtype=np.int64))
    undefined = paired("roc_auc", "binary", truth, predictions, predictions, np.flatnonzero(truth == 1))

    assert nothing.rows == 0
    assert all(math.isnan(each) for each in (nothing.value, nothing.low, undefined.value, undefined.high))


def test_what_cannot_be_asked_is_told() -> None:
    truth, predictions = answered("regression", 30)
    _, fewer = answered("regression", 20)

    with pytest.raises(UsageError, match="99 resamples are too few"):
        bootstrap(["mae"], "regression", truth, predictions, resamples=99)
    with pytest.raises(UsageError, match="confidence of 1 must lie between"):
        bootstrap(["mae"], "regression", truth, predictions, confidence=1.0)
    with pytest.raises(UsageError, match="answered 30 and 20"):
        paired("mae", "regression", truth, predictions, fewer)
