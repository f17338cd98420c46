"""Which plots a Study has: each interactive and as a picture, or why it has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rayline.tuning.importance import importances
from rayline.tuning.page import plots_interactive, plots_still
from rayline.tuning.page.sheet import Objective, Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_OBJECTIVES = 3  # that one plot has room for


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot.

    Attributes:
        name: of its files.
        title: above it.
        words: below it, how to read it.
        interactive: ``data`` and ``layout`` for Plotly; None where there is no plot, and ``words`` say why.
        still: the picture; None as ``interactive``.
    """

    name: str
    title: str
    words: str
    interactive: dict[str, Any] | None = None
    still: Figure | None = None


def plots_of(sheet: Sheet) -> tuple[Plot, ...]:
    """Return the plots of a Study in the order in which a page shows them."""
    found = []
    if len(sheet.objectives) > 1:
        found.append(_pareto(sheet))
    found += [_history(sheet, each) for each in sheet.objectives]
    found += [_parallel(sheet), _importance(sheet)]
    return tuple(found)


def _history(sheet: Sheet, objective: Objective) -> Plot:
    alone = len(sheet.objectives) == 1
    name = "history" if alone else f"history-{objective.name}"
    title = "History" if alone else f"History of {objective.name}"
    if not sheet.scored(objective):
        return Plot(name, title, f"No history: no trial has a finite {objective.name}.")
    return Plot(
        name,
        title,
        "Each point is a trial at its best epoch. Hover over it for its parameters.",
        plots_interactive.history(sheet, objective),
        plots_still.history(sheet, objective),
    )


def _parallel(sheet: Sheet) -> Plot:
    objective = sheet.objectives[0]
    return Plot(
        "parallel",
        "Parallel coordinates",
        "Each line is a trial, dark where it is good. Drag along an axis to keep only the trials that pass there.",
        plots_interactive.parallel(sheet, objective),
        plots_still.parallel(sheet, objective),
    )


def _importance(sheet: Sheet) -> Plot:
    found = {each.name: importances(sheet, each) for each in sheet.objectives}
    shares = {name: each for name, each in found.items() if not isinstance(each, str)}
    title = "Importance"
    if not shares:
        reasons = dict.fromkeys(str(each) for each in found.values())
        return Plot("importance", title, f"No importance: {'; '.join(reasons)}.")
    return Plot(
        "importance",
        title,
        "Which share of the differences between trials a parameter decides (functional ANOVA). With few trials it is a "
        "rough guess.",
        plots_interactive.importance(shares, sheet.labels),
        plots_still.importance(shares, sheet.labels),
    )


def _pareto(sheet: Sheet) -> Plot:
    shown = sheet.objectives[:MOST_OBJECTIVES]
    if not sheet.scored(*shown):
        return Plot("pareto", "Pareto front", "No Pareto front: no trial has a finite value of every objective.")
    more = "" if len(shown) == len(sheet.objectives) else f" Of {len(sheet.objectives)} objectives the first three."
    return Plot(
        "pareto",
        "Pareto front",
        f"No other trial beats those on the front in every objective.{more}",
        plots_interactive.pareto(sheet, shown),
        plots_still.pareto(sheet, shown),
    )
