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


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value and its one-sided 99 % bounds. ``low <= value <= high``."""

    value: float
    low: float
    high: float


def proportion(hits: int, n: int) -> Estimate:
    """Return ``hits / n`` with the Wilson score interval; ``n`` is at least 1.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927). Unlike the
    normal approximation it stays within 0 and 1, and holds for few samples and rare events: one error in three
    requests gives a lower bound of 0.03.
    """
    share = hits / n
    square = Z * Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    reach = Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return Estimate(share, min(share, max(0.0, middle - reach)), max(share, min(1.0, middle + reach)))


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
