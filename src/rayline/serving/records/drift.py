"""How far live traffic has moved: each input column from training, each version's predictions from the stable one's.

Distances are Jensen-Shannon's, the square root of the divergence in base 2: 0 for the same, 1 for nothing in common.
What chance alone would give of so few rows is taken off, as in the analyses of a rollout. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rayline.serving.records.observation import ArmStats
from rayline.serving.records.yardstick import MISSING, OTHER, Ruler, Yardstick

LEAST_ROWS = 50
LEAST_EACH = 5
"""Fewer rows than these, or than so many for each outcome on average, tell nothing (the rule of Cochran 1952): what
chance gives is larger than what is taken off for it, and a column of a hundred levels looks moved."""
MOST_COLUMNS = 40
"""That are shown of a version, those that moved most: each is a series of Prometheus."""
MOST_LISTED = 100
"""Levels that reference statistics list; where there are more, the rest is the share of what is not listed."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What one version has seen and said.

    Attributes:
        columns: input column to its distance from training.
        predictions: distance of its predictions from those of the stable version; None for that one itself.
    """

    columns: Mapping[str, float] = field(default_factory=dict)
    predictions: float | None = None


def drift_of(stats: Mapping[int, ArmStats], stable: int, yardstick: Yardstick) -> dict[int, Drift]:
    """Return the drift per version over a window.

    Args:
        stats: the counts of the window, per version.
        stable: the version whose predictions the others' are compared with.
        yardstick: what the counts were made with, and the shares in training.
    """
    said = stats.get(stable, ArmStats()).prediction_counts
    return {
        number: Drift(_columns(each, yardstick), _apart(each.prediction_counts, said) if number != stable else None)
        for number, each in stats.items()
    }


def distance(counts: Mapping[str, int], shares: Mapping[str, float], rows: float = math.inf) -> float:
    """Return the distance of counts from a distribution, less what chance alone gives.

    Args:
        counts: rows per outcome, together at least 1.
        shares: of each outcome, together 1.
        rows: that the shares were measured on; infinite where they are known.
    """
    total = sum(counts.values())
    outcomes = [each for each in {**counts, **shares} if counts.get(each, 0) or shares.get(each, 0.0)]
    divergence = 0.0
    for outcome in outcomes:
        live, expected = counts.get(outcome, 0) / total, shares.get(outcome, 0.0)
        middle = (live + expected) / 2
        divergence += sum(share * math.log2(share / middle) / 2 for share in (live, expected) if share)
    noise = max(0, len(outcomes) - 1) * (1 / total + 1 / rows) / (8 * math.log(2))
    return math.sqrt(min(1.0, max(0.0, divergence - noise)))


def _columns(stats: ArmStats, yardstick: Yardstick) -> dict[str, float]:
    found: dict[str, float] = {}
    for column, counts in stats.feature_counts.items():
        ruler = yardstick.columns.get(column)
        present = {label: rows for label, rows in counts.items() if label != MISSING and rows > 0}
        if ruler is None:
            continue
        shares = _expected(ruler, yardstick.shares[column])
        if _enough(present, shares):
            found[column] = distance(present, shares)
    ranked = sorted(found, key=lambda column: (-found[column], column))[:MOST_COLUMNS]
    return {column: found[column] for column in sorted(ranked)}


def _expected(ruler: Ruler, shares: Sequence[float]) -> dict[str, float]:
    """Return the share of each label in training, of the rows that had a value."""
    named = dict(zip(ruler.labels, shares, strict=False))
    if len(ruler.levels) >= MOST_LISTED:
        named[OTHER] = max(0.0, 1.0 - sum(named.values()))
    total = sum(named.values())
    return {label: share / total for label, share in named.items()} if total > 0 else {}


def _apart(counts: Mapping[str, int], others: Mapping[str, int]) -> float | None:
    rows = sum(others.values())
    if not (_enough(counts, others) and _enough(others, counts)):
        return None
    return distance(counts, {outcome: count / rows for outcome, count in others.items()}, rows)


def _enough(counts: Mapping[str, int], others: Mapping[str, float]) -> bool:
    outcomes = {outcome for each in (counts, others) for outcome, value in each.items() if value}
    return sum(counts.values()) >= max(LEAST_ROWS, LEAST_EACH * len(outcomes))
