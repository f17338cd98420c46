"""Confidence bounds of what an analysis measures, so that a handful of requests decides nothing. Pure.

All bounds are one-sided at 99 % (``Z``): an analysis looks several times at the same growing window, and each look may
err. Each measure gives an ``Estimate``; two arms are compared by ``excess``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rayline.serving.observation import ArmStats

Z = 2.3263478740408408
"""The standard normal quantile of 0.99."""

ALPHA = 0.01
BISECTIONS = 50
FRACTIONS = 100_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value and its one-sided 99 % bounds. ``low <= value <= high``."""

    value: float
    low: float
    high: float


def proportion(hits: int, n: int) -> Estimate:
    """Return ``hits / n`` with the exact interval of Clopper and Pearson; ``n`` is at least 1.

    C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26 (1934): ``low`` is the rate at which ``hits`` or more have a chance of 1 %. The score interval of
    Wilson is narrower and errs just where it matters here, for few and rare events: it would let one error in three
    requests prove a rate above 0.04. The exact bound is 0.003, and proves nothing.
    """
    low = 0.0 if hits == 0 else _beta_quantile(ALPHA, hits, n - hits + 1)
    high = 1.0 if hits == n else _beta_quantile(1 - ALPHA, hits + 1, n - hits)
    return Estimate(hits / n, low, high)


def mean_error(total: float, n: int) -> Estimate:
    """Return ``total / n`` for a mean of absolute errors; ``n`` is at least 1.

    Only the sum is counted, so the spread is taken to equal the mean, as for exponentially distributed errors (normal
    errors spread less: 0.76 of the mean). The bounds are then ``mean * exp(-+ Z / sqrt(n))``: the delta method on the
    logarithm, whose standard error is ``1 / sqrt(n)``.
    """
    mean = total / n
    factor = math.exp(Z / math.sqrt(n))
    return Estimate(mean, mean / factor, mean * factor)


def quantile(stats: ArmStats, q: float) -> Estimate:
    """Return the latency in seconds at ``q`` (0 to 1); ``stats`` has at least 1 request.

    The bounds are order statistics: the latencies at the ranks ``q -+ Z * sqrt(q * (1 - q) / n)``, which inverts the
    score test of "a share of ``1 - q`` is slower than this". No shape of the distribution is assumed; the resolution
    is a bucket of the histogram, 26 % wide.
    """
    n = sum(stats.latency_counts)
    reach = Z * math.sqrt(q * (1 - q) / n)
    ranks = (q, max(0.0, q - reach), min(1.0, q + reach))
    value, low, high = (stats.latency(rank) or 0.0 for rank in ranks)
    return Estimate(value, low, high)


def divergence(first: Mapping[str, int], second: Mapping[str, int]) -> Estimate:
    """Return the Jensen-Shannon distance (0 to 1, base 2) between two sets of counts, corrected for few samples.

    The distance is the square root of the divergence ``D``. Two samples of one distribution over ``k`` outcomes never
    look equal: to second order ``8 ln(2) D / (1/n + 1/m)`` follows a chi-square of ``k - 1`` degrees (compare Grosse
    et al., "Analysis of symbolic sequences using the Jensen-Shannon divergence", Phys. Rev. E 65, 041905, 2002), so
    its mean ``(k - 1) (1/n + 1/m) / (8 ln 2)`` is taken off. The standard error joins that chi-square's own spread
    with the delta method's, which rules where the distributions differ.
    """
    keys = [key for key in {**first, **second} if first.get(key, 0) or second.get(key, 0)]
    n, m = sum(first.values()), sum(second.values())
    total = 0.0
    variance = 0.0
    for counts, size, other, others in ((first, n, second, m), (second, m, first, n)):
        mean = mean_square = 0.0
        for key in keys:
            share = counts.get(key, 0) / size
            if share:
                gain = 0.5 * math.log2(2 * share / (share + other.get(key, 0) / others))
                mean += share * gain
                mean_square += share * gain * gain
        total += mean
        variance += max(0.0, mean_square - mean * mean) / size
    noise = (1 / n + 1 / m) / (8 * math.log(2))
    freedom = max(0, len(keys) - 1)
    corrected = total - freedom * noise
    reach = Z * math.sqrt(variance + 2 * freedom * noise * noise)
    value, low, high = (math.sqrt(min(1.0, max(0.0, each))) for each in (corrected, corrected - reach, total + reach))
    return Estimate(value, low, high)


def excess(canary: Estimate, stable: Estimate, *, ratio: float = 1.0, offset: float = 0.0) -> Estimate:
    """Return ``canary - (ratio * stable + offset)`` with bounds.

    The bounds of the two arms are joined by the square-and-add rule: R. G. Newcombe, "Interval estimation for the
    difference between independent proportions: comparison of eleven methods", Statistics in Medicine 17 (1998),
    method 10; G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures: a general approach",
    Statistics in Medicine 27 (2008).
    """
    value = canary.value - ratio * stable.value - offset
    down = math.hypot(canary.value - canary.low, ratio * (stable.high - stable.value))
    up = math.hypot(canary.high - canary.value, ratio * (stable.value - stable.low))
    return Estimate(value, value - down, value + up)


def _beta_quantile(probability: float, a: float, b: float) -> float:
    """Return the value below which a beta distribution lies with ``probability``, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _beta_below(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_below(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function, by its continued fraction (Lentz's method).

    W. H. Press et al., "Numerical Recipes", 3rd edition, section 6.4.
    """
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_below(1 - x, b, a)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    below = 1 / (1 - (a + b) * x / (a + 1) or tiny)
    above, result = 1.0, below
    for step in range(1, FRACTIONS):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        change = 1.0
        for term in (even, odd):
            below = 1 / (1 + term * below or tiny)
            above = 1 + term / above or tiny
            change = above * below
            result *= change
        if abs(change - 1) < 1e-14:
            break
    return math.exp(scale) * result / a
