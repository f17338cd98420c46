"""Plots of groups of rows: bins of the calibration, and slices with their intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rayline.evaluation.canvas import COLOUR, GREY, SECOND_COLOUR, canvas
from rayline.evaluation.scores import MAIN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rayline.evaluation.calibration import Calibration
    from rayline.evaluation.intervals import Interval
    from rayline.evaluation.metrics import Evaluation

MOST_SLICES = 40
"""So many slices are drawn; ``slices.csv`` has all."""
_TEXT = 60  # characters of a slice's name


def calibration(found: Calibration) -> Figure:
    """Draw what was so against what was said, or a regression's bias, in bins of equally many rows."""
    share = found.what != "answer"
    title = f"Reliability, calibration error {found.error:.3g}" if share else f"Bias, {found.error:.3g} on average"
    figure, axes = canvas(title, found.what if share else "predicted", "share that was so" if share else "bias")
    said = [each.said for each in found.bins]
    # A bias is what was said less what was so: its bounds change places.
    points = [(each.so, each.low, each.high) for each in found.bins]
    if not share:
        points = [(each.said - each.so, each.said - each.high, each.said - each.low) for each in found.bins]
    middle = [point for point, _, _ in points]
    reach = [[_reach(point, low) for point, low, _ in points], [_reach(high, point) for point, _, high in points]]
    axes.errorbar(said, middle, yerr=reach, fmt="o-", color=COLOUR, ecolor=GREY, markersize=4, linewidth=1)
    if share:
        axes.plot([0, 1], [0, 1], color=SECOND_COLOUR, linewidth=1, linestyle="--", label="as said")
    else:
        axes.axhline(0.0, color=SECOND_COLOUR, linewidth=1, linestyle="--", label="none")
    axes.legend(loc="upper left")
    return figure


def slices(evaluation: Evaluation) -> Figure:
    """Draw the main score of each slice with its interval, named slices first, found ones in another colour."""
    name = _score_drawn(evaluation)
    drawn = [each for each in evaluation.slices if name in each.scores][:MOST_SLICES]
    height = 1.6 + 0.28 * max(1, len(drawn))
    figure, axes = canvas(f"{name} by slice, {evaluation.confidence:.0%} intervals", name, "", 9.0, height)
    for place, each in enumerate(drawn):
        interval = each.scores[name]
        colour = COLOUR if each.worst is None else SECOND_COLOUR
        axes.errorbar(interval.value, place, xerr=_reaches(interval), fmt="o", color=colour, markersize=4, capsize=2)
    for colour, label in ((COLOUR, "named"), (SECOND_COLOUR, "found to be worse")):
        axes.plot([], [], "o", color=colour, markersize=4, label=label)
    texts = [f"{_cut(each.slice.name)}  ({len(each.slice):,})" for each in drawn]
    axes.set_yticks(range(len(drawn)), texts, fontsize=8)
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    whole = evaluation.intervals.get(name)
    if whole is not None:
        axes.axvline(whole.value, color=GREY, linewidth=1, linestyle="--", label="all rows")
        if math.isfinite(whole.low):
            axes.axvspan(whole.low, whole.high, color=GREY, alpha=0.2, linewidth=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure


def _score_drawn(evaluation: Evaluation) -> str:
    """Return the main score, or accuracy where few slices define that."""
    name = MAIN[evaluation.task]
    defined = sum(name in each.scores for each in evaluation.slices)
    return name if 2 * defined >= len(evaluation.slices) else "accuracy"


def _reaches(interval: Interval) -> list[list[float]]:
    return [[_reach(interval.value, interval.low)], [_reach(interval.high, interval.value)]]


def _reach(more: float, less: float) -> float:
    return max(0.0, more - less) if math.isfinite(more - less) else 0.0


def _cut(text: str) -> str:
    return (text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…").replace("$", r"\$")
