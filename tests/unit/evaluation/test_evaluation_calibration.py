"""Calibration and the choice of a threshold, against plain loops and models that are known to be right or wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation_examples import answered, of_chances, of_numbers
from rayline.config import CostConfig, EvaluateConfig, parse
from rayline.errors import ConfigError
from rayline.evaluation.calibration import calibration_of
from rayline.evaluation.scores import summing_to_one
from rayline.evaluation.threshold import chosen, cost, threshold_of
from rayline.registry.predictor import Predictions


def honest(rows: int, seed: int = 0, *, stretched: float = 1.0) -> tuple[np.ndarray, Predictions]:
    """A model that says the true chance; or one too sure of itself, where ``stretched`` is more than 1."""
    random = np.random.default_rng(seed)
    logit = random.normal(size=rows)
    truth = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    said = 1 / (1 + np.exp(-stretched * logit))
    return truth, of_chances(np.stack((1 - said, said), axis=1))


def test_an_honest_model_has_a_small_error_and_one_too_sure_a_large_one() -> None:
    right, wrong = (calibration_of("binary", *honest(20_000, stretched=each)) for each in (1.0, 4.0))

    assert right.error < 0.015
    assert wrong.error > 0.1
    assert wrong.largest > wrong.error
    assert sum(each.low <= each.said <= each.high for each in right.bins) >= 8
    assert sum(each.low <= each.said <= each.high for each in wrong.bins) <= 2


@given(st.integers(1, 200), st.integers(0, 1_000), st.booleans())
def test_the_error_is_that_of_a_plain_loop_over_the_bins(rows: int, seed: int, ties: bool) -> None:
    truth, predictions = answered("binary", rows, seed, ties=ties)
    chance = summing_to_one(predictions.probabilities)[:, 1]

    found = calibration_of("binary", truth, predictions)

    total = 0.0
    for each in found.bins:
        inside = (chance >= each.least) & (chance <= each.most)
        assert each.rows == inside.sum()
        total += each.rows / rows * abs(chance[inside].mean() - truth[inside].mean())
    assert sum(each.rows for each in found.bins) == rows
    assert found.error == pytest.approx(total, abs=1e-12)
    assert all(one.most < two.least for one, two in zip(found.bins, found.bins[1:], strict=False))


def test_bins_have_equally_many_rows_and_equal_answers_one_bin() -> None:
    spread = calibration_of("binary", *honest(1_000))
    same = calibration_of("binary", np.arange(100) % 2, of_chances(np.full((100, 2), 0.5)))

    assert {each.rows for each in spread.bins} == {100}
    assert [(each.rows, each.said, each.so) for each in same.bins] == [(100, 0.5, 0.5)]
    assert same.error == 0


def test_many_classes_are_judged_by_the_chance_of_the_answer() -> None:
    truth, predictions = answered("multiclass", 2_000)

    found = calibration_of("multiclass", truth, predictions)

    right = truth == predictions.values
    assert found.what == "chance of the answer"
    assert sum(each.so * each.rows for each in found.bins) == pytest.approx(right.sum())


def test_a_regression_is_judged_by_its_mean_truth_at_each_answer() -> None:
    truth, predictions = answered("regression", 4_000)
    low = of_numbers(predictions.values - 3)

    found, shifted = calibration_of("regression", truth, predictions), calibration_of("regression", truth, low)

    assert shifted.error == pytest.approx(abs(np.mean(low.values - truth)), rel=0.2)
    assert found.error < shifted.error
    assert all(each.low < each.so < each.high for each in found.bins)


@pytest.mark.parametrize("rule", ["f1", "youden", CostConfig(cost_false_positive=1, cost_false_negative=5)])
@given(rows=st.integers(2, 40), seed=st.integers(0, 1_000), ties=st.booleans())
def test_no_other_threshold_is_better(rule: str | CostConfig, rows: int, seed: int, ties: bool) -> None:
    truth, predictions = answered("binary", rows, seed, ties=ties)
    truth[:2] = 0, 1
    chance = predictions.probabilities[:, 1].astype(np.float64)

    found = chosen(truth == 1, chance, rule)

    def worth(threshold: float) -> float:
        said, positive = chance >= threshold, truth == 1
        if isinstance(rule, CostConfig):
            return -cost(positive, said, rule)
        hit = float((said & positive).sum())
        if rule == "f1":
            return 2 * hit / (said.sum() + positive.sum())
        return hit / positive.sum() - (said & ~positive).sum() / (~positive).sum()

    assert worth(found) == pytest.approx(max(worth(each) for each in [0, *(chance + 1e-9), *(chance - 1e-9), 2]))


def test_a_threshold_is_chosen_on_one_part_and_measured_on_another() -> None:
    valid, test = honest(4_000, 1), honest(4_000, 2)
    rule = CostConfig(cost_false_positive=1, cost_false_negative=4)

    found = threshold_of(valid, test, EvaluateConfig(threshold=rule, bootstrap=100))

    # An honest chance is worth acting on from cost_fp / (cost_fp + cost_fn) on.
    assert found.value == pytest.approx(0.2, abs=0.06)
    assert found.rows == 4_000
    assert found.cost_at_value < found.cost_at_half
    assert found.at_value["recall"].low > found.at_half["recall"].high
    assert found.at_half["accuracy"].value == pytest.approx(np.mean(test[0] == test[1].values))


def test_there_is_no_threshold_where_none_is_asked_for_or_can_be_chosen() -> None:
    both, one_class = honest(100), (np.zeros(100, dtype=np.int64), honest(100)[1])

    assert threshold_of(both, both, EvaluateConfig(threshold="none")) is None
    assert threshold_of(one_class, both, EvaluateConfig()) is None


def test_the_rule_of_a_threshold_is_checked_when_it_is_read() -> None:
    sections = {"name": "x", "data": {"source": "x"}, "features": {"target": "x"}}

    costs = parse({**sections, "evaluate": {"threshold": {"cost_false_positive": 1, "cost_false_negative": 2}}})
    assert costs.evaluate.threshold == CostConfig(cost_false_positive=1, cost_false_negative=2)
    with pytest.raises(ConfigError, match=r"evaluate\.threshold' is 'yuden'\. Did you mean 'youden'"):
        parse({**sections, "evaluate": {"threshold": "yuden"}})
    with pytest.raises(ConfigError, match="must be more than 0"):
        parse({**sections, "evaluate": {"threshold": {"cost_false_positive": 0, "cost_false_negative": 0}}})
