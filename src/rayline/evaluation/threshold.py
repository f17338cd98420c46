"""From which chance of the second class on to answer with it: chosen on the validation part, measured on the test part.

A threshold chosen on the rows that measure it would look better than it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import CostConfig, EvaluateConfig
from rayline.evaluation.intervals import Interval, bootstrap

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions

Doubles = NDArray[np.float64]
MEASURED = ("accuracy", "balanced_accuracy", "f1", "precision", "recall")
"""The scores that a threshold moves."""
HALF = 0.5


@dataclass(frozen=True, slots=True)
class Threshold:
    """A suggestion: the Bundle answers with the likelier class, whatever stands here.

    Attributes:
        rule: what it was chosen for: ``f1``, ``youden`` or ``cost``.
        value: answer with the second class where its chance is at least this.
        rows: validation rows that it was chosen on.
        at_half: scores of the test part at 0.5, with their intervals.
        at_value: the same at ``value``.
        cost_at_half, cost_at_value: mean cost of a test row, in the unit of the configured costs; None for other rules.
    """

    rule: str
    value: float
    rows: int
    at_half: Mapping[str, Interval]
    at_value: Mapping[str, Interval]
    cost_at_half: float | None = None
    cost_at_value: float | None = None


def threshold_of(
    valid: tuple[NDArray[Any], Predictions], test: tuple[NDArray[Any], Predictions], config: EvaluateConfig
) -> Threshold | None:
    """Choose a threshold of a binary task and measure it.

    Args:
        valid: truth int64 (n,) and answers of the validation part.
        test: those of the test part.
        config: the rule, and the bootstrap.

    Returns:
        None where the rule is ``none`` or the validation part has one class only.
    """
    rule = config.threshold
    truth, answers = valid
    if rule == "none" or not 0 < np.count_nonzero(truth == 1) < len(truth):
        return None
    value = chosen(truth == 1, _chance(answers), rule)
    at_half, at_value = (_measured(*test, each, config) for each in (HALF, value))
    if not isinstance(rule, CostConfig):
        return Threshold(rule, value, len(truth), at_half, at_value)
    costs = [cost(test[0] == 1, _chance(test[1]) >= each, rule) for each in (HALF, value)]
    return Threshold("cost", value, len(truth), at_half, at_value, *costs)


def chosen(positive: NDArray[np.bool_], chance: Doubles, rule: str | CostConfig) -> float:
    """Return the best threshold between two neighbouring chances; of equally good ones the nearest to 0.5.

    Args:
        positive: bool (n,), which rows are of the second class; both kinds occur.
        chance: float64 (n,), of it.
        rule: ``f1``, ``youden`` (recall + specificity - 1; W. Youden, Cancer 3, 1950) or what errors cost.
    """
    order = np.argsort(-chance, kind="stable")
    falling = chance[order]
    hits = np.concatenate(([0], np.cumsum(positive[order])))
    said = np.arange(len(chance) + 1)
    cut = np.concatenate(([True], falling[1:] != falling[:-1], [True]))  # never between equal chances
    hit, alarm = hits[cut], (said - hits)[cut]
    total = int(hits[-1])
    negatives = len(chance) - total
    if isinstance(rule, CostConfig):
        worth = -(rule.cost_false_positive * alarm + rule.cost_false_negative * (total - hit))
    elif rule == "f1":
        worth = 2 * hit / (hit + alarm + total)
    else:
        worth = hit / total - alarm / negatives
    above = np.concatenate(([1.0], falling))[cut]  # the last chance that is answered with the second class
    below = np.concatenate((falling, [0.0]))[cut]
    between = (above + below) / 2
    between[0] = np.nextafter(max(1.0, falling[0]), 2.0) if falling[0] >= 1 else (1 + falling[0]) / 2
    best = np.flatnonzero(worth >= worth.max() - 1e-12 * max(1.0, abs(float(worth.max()))))
    return float(between[best[np.argmin(np.abs(between[best] - HALF))]])


def cost(positive: NDArray[np.bool_], said: NDArray[np.bool_], rule: CostConfig) -> float:
    """Return the mean cost of a row."""
    alarms, missed = np.count_nonzero(~positive & said), np.count_nonzero(positive & ~said)
    return (rule.cost_false_positive * alarms + rule.cost_false_negative * missed) / len(positive)


def _chance(predictions: Predictions) -> Doubles:
    assert predictions.probabilities is not None
    return predictions.probabilities[:, 1].astype(np.float64)


def _measured(
    truth: NDArray[Any], predictions: Predictions, value: float, config: EvaluateConfig
) -> dict[str, Interval]:
    from rayline.registry.predictor import Predictions as Answers

    said = (_chance(predictions) >= value).astype(np.int64)
    moved = Answers(said, predictions.probabilities, predictions.labels)
    return bootstrap(MEASURED, "binary", truth, moved, resamples=config.bootstrap, confidence=config.confidence)
