"""The test behind an experiment: an interval for the difference of two means that holds at all times together. Pure.

A confidence sequence contains the true difference at every look at once with the stated confidence, so that one may
look after every row and stop whenever one likes: H. Robbins, "Statistical methods related to the law of the iterated
logarithm", Annals of Mathematical Statistics 41 (1970); S. R. Howard, A. Ramdas, J. McAuliffe and J. Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49 (2021). The one here is
asymptotic, as the central limit theorem is: I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy and A. Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences" (2021), theorem 2.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rayline.config import ExperimentConfig
from rayline.rollout.analysis.intervals import Estimate
from rayline.serving.records.observation import ArmStats

Answer = Literal["canary", "stable", "equal", ""]
"""Which version is better; ``equal``: they differ by less than matters; empty: not known yet."""

TUNED_FOR = 20
"""The interval is narrowest at this many times the least samples of an arm, and nearly so around it."""


@dataclass(frozen=True, slots=True)
class Effect:
    """How much better the canary is than the stable version; above 0 it is better.

    Attributes:
        measure: ``accuracy`` (a share) or ``mean_absolute_error`` (in the target's units, less is better).
        canary: the measure of the canary.
        stable: of the stable version.
        estimate: of the difference, with the interval that holds at all times.
        samples: rows of feedback, of the canary and of the stable version.
    """

    measure: str
    canary: float
    stable: float
    estimate: Estimate
    samples: tuple[int, int]

    @property
    def text(self) -> str:
        """The estimate with its interval, in words."""
        low, high = (f"{each:+.4g}" for each in (self.estimate.low, self.estimate.high))
        return f"{self.estimate.value:+.4g}, in [{low}, {high}]"


def effect(config: ExperimentConfig, stable: ArmStats, canary: ArmStats) -> Effect | None:
    """Return what is known of the difference by now; None with fewer than ``minimum_samples`` in an arm."""
    sizes = (canary.feedback, stable.feedback)
    if min(sizes) < max(2, config.minimum_samples):
        return None
    (mine, my_spread), (theirs, their_spread) = (_moments(config.measure, each) for each in (canary, stable))
    gain = mine - theirs if config.measure == "accuracy" else theirs - mine
    total = sum(sizes)
    spread = math.sqrt(total * (my_spread / sizes[0] + their_spread / sizes[1]))
    reach = spread * radius(total, 1 - config.confidence, TUNED_FOR * config.minimum_samples)
    return Effect(config.measure, mine, theirs, Estimate(gain, gain - reach, gain + reach), sizes)


def answer(config: ExperimentConfig, found: Effect) -> Answer:
    """Return what an effect decides.

    With a ``minimum_effect`` an interval within it is an answer too: whatever difference there is does not matter.
    """
    low, high = found.estimate.low, found.estimate.high
    if low > 0:
        return "canary"
    if high < 0:
        return "stable"
    return "equal" if max(-low, high) <= config.minimum_effect else ""


def radius(n: int, alpha: float, tuned_for: int) -> float:
    """Return the half width of the sequence after ``n`` rows whose spread (standard deviation) is 1.

    ``sqrt(2 (n r^2 + 1) / (n^2 r^2) log(sqrt(n r^2 + 1) / alpha))``, with the ``r`` that makes it narrowest at
    ``tuned_for`` rows (their appendix B.2); ``tuned_for`` must not depend on the data.
    """
    square = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuned_for
    grown = n * square + 1
    return math.sqrt(2 * grown / (n * n * square) * math.log(math.sqrt(grown) / alpha))


def _moments(measure: str, stats: ArmStats) -> tuple[float, float]:
    """Return the mean and the variance of a row's score.

    A share is drawn to one half by two rows, so that an arm without a fault is not taken to be without spread.
    """
    n = stats.feedback
    if measure == "accuracy":
        smooth = (stats.correct + 1) / (n + 2)
        return stats.correct / n, smooth * (1 - smooth)
    mean = stats.absolute_error / n
    return mean, max(0.0, stats.squared_error / n - mean * mean) * n / (n - 1)
