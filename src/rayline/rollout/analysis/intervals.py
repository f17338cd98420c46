"""Confidence bounds of what an analysis measures, so that a handful of requests decides nothing. Pure.

All bounds are one-sided: each errs with a chance of ``alpha``. Each measure gives an ``Estimate``; two arms are
compared by ``excess``. ``spent`` divides a chance over looks without an end, as each look at a growing window may err.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

from rayline.serving.records.observation import ArmStats

ALPHA = 0.01
BISECTIONS = 50
FRACTIONS = 100_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value and its one-sided bounds. ``low <= value <= high``."""

    value: float
    low: float
    high: float


def exactly(value: float) -> Estimate:
    """Return a value that is known without error, or whose error nobody knows."""
    return Estimate(value, value, value)


def spent(alpha: float, look: int, planned: int = 1) -> float:
    """Return the chance to err that look number ``look`` (from 1) may use, so that all looks together use ``alpha``.

    The ``planned`` looks share one half equally. Look ``j`` beyond them gets ``1 / (j (j + 1))`` of the other half, and
    these shares add up to 1 however many there will be. By the union bound the whole errs with at most ``alpha``,
    whatever the looks have in common (alpha spending: K. K. G. Lan and D. L. DeMets, "Discrete sequential boundaries
    for clinical trials", Biometrika 70, 1983).
    """
    if look <= planned:
        return alpha / 2 / planned
    beyond = look - planned
    return alpha / 2 / (beyond * (beyond + 1))


@cache
def normal_quantile(alpha: float) -> float:
    """Return the point that a standard normal variable exceeds with a chance of ``alpha``."""
    return NormalDist().inv_cdf(1 - alpha) if alpha > 1e-12 else -NormalDist().inv_cdf(alpha)


def proportion(hits: int, n: int, alpha: float = ALPHA) -> Estimate:
    """Return ``hits / n`` with the exact interval of Clopper and Pearson; ``n`` is at least 1.

    C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26 (1934): ``low`` is the rate at which ``hits`` or more have a chance of ``alpha``. The score interval
    of Wilson is narrower and errs just where it matters here, for few and rare events: at 99 % it would let one error
    in three requests prove a rate above 0.04. The exact bound is 0.003, and proves nothing.
    """
    low = 0.0 if hits == 0 else _beta_quantile(alpha, hits, n - hits + 1)
    high = 1.0 if hits == n else 1 - _beta_quantile(alpha, n - hits, hits + 1)
    return Estimate(hits / n, low, high)


def mean_error(total: float, n: int, alpha: float = ALPHA, squares: float = 0.0) -> Estimate:
    """Return ``total / n`` for a mean of absolute errors; ``n`` is at least 1.

    The bounds are ``mean * exp(-+ z * c / sqrt(n))``: the delta method on the logarithm, which suits errors that are
    never negative and have a long tail. ``c`` is their coefficient of variation, from the sum of their ``squares``;
    where that was not counted it is taken to be 1, as of exponentially distributed errors (of normal ones it is 0.76).
    """
    mean = total / n
    spread = 1.0
    if mean > 0 and squares * n >= total * total * (1 - 1e-9):
        spread = math.sqrt(max(0.0, squares / n - mean * mean)) / mean
    factor = math.exp(min(700.0, normal_quantile(alpha) * spread / math.sqrt(n)))
    return Estimate(mean, mean / factor, mean * factor)


def quantile(stats: ArmStats, q: float, alpha: float = ALPHA) -> Estimate:
    """Return the latency in seconds at ``q`` (0 to 1); ``stats`` has at least 1 request.

    The bounds are order statistics: the latencies at the ranks that the number of requests below the true quantile,
    binomial with ``n`` and ``q``, falls short of or exceeds with a chance of ``alpha``. No shape of the distribution is
    assumed; the resolution is a bucket of the histogram, 26 % wide. Too few requests have no upper bound.
    """
    n = sum(stats.latency_counts)
    value = stats.latency(q) or 0.0
    low = _first(lambda rank: _binomial_at_most(rank, n, q) > alpha, n)
    high = _first(lambda rank: 1 - _binomial_at_most(rank - 1, n, q) <= alpha, n + 1)
    lower = (stats.latency(low / n) or 0.0) if low else 0.0
    upper = math.inf if high > n else stats.latency(high / n) or 0.0
    return Estimate(value, min(value, lower), max(value, upper))


def divergence(first: Mapping[str, int], second: Mapping[str, int], alpha: float = ALPHA) -> Estimate:
    """Return the Jensen-Shannon distance (0 to 1, base 2) between two sets of counts, corrected for few samples.

    The distance is the square root of the divergence ``D``. Two samples of one distribution over ``k`` outcomes never
    look equal: to second order ``8 ln(2) D / (1/n + 1/m)`` follows a chi-square of ``k - 1`` degrees (compare Grosse
    et al., "Analysis of symbolic sequences using the Jensen-Shannon divergence", Phys. Rev. E 65, 041905, 2002), so
    its mean ``(k - 1) (1/n + 1/m) / (8 ln 2)`` is taken off. The bounds join that chi-square's own upper tail with the
    delta method's spread, which rules where the distributions differ.
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
    reach = _shift_reach(alpha, variance, freedom, noise)
    value, low, high = (math.sqrt(min(1.0, max(0.0, each))) for each in (corrected, corrected - reach, total + reach))
    return Estimate(value, low, high)


def _shift_reach(alpha: float, variance: float, freedom: int, noise: float) -> float:
    """Return how far a divergence may lie above its mean by chance.

    The tail of a chi-square is B. Laurent and P. Massart's, "Adaptive estimation of a quadratic functional by model
    selection", Annals of Statistics 28 (2000), lemma 1: it exceeds ``k + 2 sqrt(k x) + 2 x`` with at most ``exp(-x)``.
    """
    x = -math.log(alpha)
    tail = noise * (2 * math.sqrt(freedom * x) + 2 * x) if freedom else 0.0
    return math.hypot(normal_quantile(alpha) * math.sqrt(variance), tail)


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


def _first(fits: Callable[[int], bool], last: int) -> int:
    """Return the first number from 0 to ``last`` that fits, where all after it do; ``last`` where none before does."""
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return low


def _binomial_at_most(k: int, n: int, p: float) -> float:
    """Return the chance that of ``n`` draws at most ``k`` hit."""
    if k < 0:
        return 0.0
    return 1.0 if k >= n else _beta_below(1 - p, n - k, k + 1)


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
