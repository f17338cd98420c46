"""One empty Matplotlib figure that touches no global state and opens no window."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOUR = "#3465a4"
SECOND_COLOUR = "#cc6600"
GREY = "#888888"


def canvas(title: str, across: str, up: str, width: float = 6.4, height: float = 4.8) -> tuple[Figure, Axes]:
    """Return a figure of so many inches, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=across, ylabel=up)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes
