"""A Study's plots as pictures: Matplotlib figures that touch no global state and open no window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rayline.tuning.page.axes import axes_of
from rayline.tuning.page.plots_interactive import BEST, FINISHED, LINE, STOPPED, best_so_far
from rayline.tuning.page.sheet import Objective, Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
MOST_LETTERS = 24


def history(sheet: Sheet, objective: Objective) -> Figure:
    """Draw each trial's value by its number, and the best so far."""
    figure, axes = _canvas("trial", f"{objective.name} ({'less' if objective.sign > 0 else 'more'} is better)")
    trials = sheet.scored(objective)
    for status, colour in (("finished", FINISHED), ("stopped", STOPPED)):
        some = [trial for trial in trials if trial.status == status]
        if some:
            x, y = [trial.number + 1 for trial in some], [objective.of(trial) for trial in some]
            axes.scatter(x, y, color=colour, label=status, s=36, edgecolors="white", zorder=3)
    bests = best_so_far(trials, objective)
    axes.step(*zip(*bests, strict=True), where="post", color=BEST, label="best so far", linewidth=1.8)
    axes.legend(loc="best", frameon=False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def importance(shares: Mapping[str, Mapping[str, float]], labels: Mapping[str, str]) -> Figure:
    """Draw how much each parameter decides, for each objective."""
    keys = list(next(iter(shares.values())))[::-1]
    figure, axes = _canvas("share of what varies", "", height=1.4 + 0.42 * len(keys) * max(1, len(shares) * 0.6))
    thick = 0.8 / len(shares)
    for place, (name, each) in enumerate(shares.items()):
        heights = [row + (place - (len(shares) - 1) / 2) * thick for row in range(len(keys))]
        values = [each.get(key, 0.0) for key in keys]
        bars = axes.barh(heights, values, height=thick * 0.9, label=name, color=(FINISHED, BEST, LINE)[place % 3])
        axes.bar_label(bars, [f"{value:.0%}" for value in values], padding=3)
    axes.set_yticks(range(len(keys)), [labels[key] for key in keys])
    axes.set_xlim(0, 1.1)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    if len(shares) > 1:
        axes.legend(frameon=False)
    return figure


def parallel(sheet: Sheet, objective: Objective) -> Figure:
    """Draw each trial as a line through its parameters and its values; the best in a colour of its own."""
    trials, lines = axes_of(sheet, objective)
    figure, axes = _canvas("", "", width=max(8.0, 1.7 * len(lines)))
    values = [value for trial in trials if (value := objective.of(trial)) is not None]
    low, high = min(values), max(values)
    for place, trial in enumerate(trials):
        height = [axis.share(axis.places[place]) for axis in lines]
        worse = (values[place] - low) / ((high - low) or 1.0)
        rank = worse if objective.sign > 0 else 1 - worse
        best = trial.number == sheet.best.number
        colour = BEST if best else (0.2 + 0.55 * rank, 0.4 + 0.42 * rank, 0.64 + 0.22 * rank)
        axes.plot(
            range(len(lines)), height, color=colour, linewidth=2.4 if best else 1.2, zorder=3 if best else 2 - rank
        )
    for number, axis in enumerate(lines):
        axes.axvline(number, color=LINE, linewidth=0.8, zorder=1)
        for at, text in axis.ticks:
            words = axes.text(number + 0.04, axis.share(at), _cut(text), fontsize=8, va="center", zorder=4)
            words.set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8})
    names = [_cut(axis.label) for axis in lines]
    axes.set_xticks(range(len(lines)), names, rotation=20, ha="right")
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(lines) - 0.4)
    axes.grid(visible=False)
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    return figure


def pareto(sheet: Sheet, objectives: Sequence[Objective]) -> Figure:
    """Draw the trials by two or three objectives, those on the front apart."""
    names = [each.name for each in objectives]
    solid = len(names) > 2
    figure, axes = _canvas(names[0], names[1], solid=solid)
    front = {trial.number for trial in sheet.pareto}
    for label, colour, inside in (("other trials", STOPPED, False), ("Pareto front", BEST, True)):
        some = [trial for trial in sheet.scored(*objectives) if (trial.number in front) == inside]
        if some:
            places = [[each.of(trial) for trial in some] for each in objectives]
            axes.scatter(*places, color=colour, label=label, s=40)
    if solid:
        axes.set_zlabel(names[2])
    axes.legend(frameon=False)
    return figure


def _canvas(x: str, y: str, *, width: float = 8.0, height: float = 4.2, solid: bool = False) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, max(height, 2.2)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot(projection="3d") if solid else figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, color="#e5e9ee")
    axes.set_axisbelow(True)
    return figure, axes


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"…{text[-MOST_LETTERS:]}"
