"""The test behind an experiment, with numbers by hand, and its promise under many looks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rayline.config import ExperimentConfig
from rayline.rollout.analysis.intervals import spent
from rayline.rollout.analysis.sequential import answer, effect, radius
from rayline.serving.records.observation import ArmStats

QUESTION = ExperimentConfig(measure="accuracy", minimum_samples=100)


def test_the_radius_is_the_one_of_the_paper() -> None:
    # alpha 0.05: -2 ln 0.05 = 5.991465, r^2 = (5.991465 + ln 6.991465) / 100 = 0.0793618; n = 100: n r^2 + 1 = 8.93618;
    # sqrt(2 x 8.93618 / (10,000 x 0.0793618) x ln(sqrt(8.93618) / 0.05)) = sqrt(0.0225201 x 4.0907) = 0.30352.
    assert radius(100, 0.05, 100) == pytest.approx(0.30352, abs=2e-5)
    assert radius(10_000, 0.05, 100) < radius(1_000, 0.05, 100) < radius(100, 0.05, 100)


def test_an_answer_needs_an_interval_beyond_zero() -> None:
    better = effect(QUESTION, ArmStats(feedback=5000, correct=4000), ArmStats(feedback=5000, correct=4400))
    same = effect(QUESTION, ArmStats(feedback=5000, correct=4000), ArmStats(feedback=5000, correct=4010))
    assert better is not None
    assert same is not None
    assert better.estimate.value == pytest.approx(0.08)
    assert (answer(QUESTION, better), answer(QUESTION, same)) == ("canary", "")
    wide = ExperimentConfig(measure="accuracy", minimum_samples=100, minimum_effect=0.05)
    assert answer(wide, same) == "equal"
    worse = effect(QUESTION, ArmStats(feedback=5000, correct=4400), ArmStats(feedback=5000, correct=4000))
    assert worse is not None
    assert answer(QUESTION, worse) == "stable"
    assert effect(QUESTION, ArmStats(feedback=5000, correct=1), ArmStats(feedback=99, correct=99)) is None


def test_less_error_is_a_gain() -> None:
    question = ExperimentConfig(measure="mean_absolute_error", minimum_samples=2)
    found = effect(
        question,
        ArmStats(feedback=100, absolute_error=300.0, squared_error=1000.0),
        ArmStats(feedback=100, absolute_error=200.0, squared_error=500.0),
    )
    assert found is not None
    assert found.estimate.value == pytest.approx(1.0)
    # Each variance is 1 x 100 / 99, so the spread over 200 rows is sqrt(200 x 2 / 99).
    reach = math.sqrt(400 / 99) * radius(200, 0.05, 40)
    assert found.estimate.high - found.estimate.value == pytest.approx(reach)


def test_a_hundred_looks_err_less_often_than_stated() -> None:
    random = np.random.default_rng(3)
    runs, looks = 4000, 100
    n = 100 * np.arange(1, looks + 1)
    hits = np.cumsum(random.binomial(100, 0.8, size=(2, runs, looks)), axis=2)
    smooth = (hits + 1) / (n + 2)
    spread = np.sqrt(2 * n * (smooth * (1 - smooth) / n).sum(axis=0))
    reach = spread * np.array([radius(int(2 * each), 0.05, 2000) for each in n])
    gain = (hits[1] - hits[0]) / n
    assert (np.abs(gain) > reach).any(axis=1).mean() <= 0.05
    last = effect(
        QUESTION,
        ArmStats(feedback=int(n[-1]), correct=int(hits[0, 0, -1])),
        ArmStats(feedback=int(n[-1]), correct=int(hits[1, 0, -1])),
    )
    assert last is not None
    assert last.estimate.high - last.estimate.value == pytest.approx(float(reach[0, -1]))


@pytest.mark.parametrize("planned", [1, 3, 10])
def test_the_chance_to_err_is_never_overspent(planned: int) -> None:
    shares = [spent(0.05, look, planned) for look in range(1, 5000)]
    assert sum(shares[:planned]) == pytest.approx(0.025)
    assert 0.0499 < sum(shares) <= 0.05
