"""A Study's plots as Plotly reads them: plain values of ``data`` and ``layout``, drawn by the page itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rayline.tuning.ledger import Trial
from rayline.tuning.page.axes import axes_of
from rayline.tuning.page.sheet import Objective, Sheet, params_of

Figure = dict[str, Any]

FINISHED, STOPPED, BEST, LINE = "#3465a4", "#a8b3c4", "#cc6600", "#888888"
SCALE = [[0.0, "#0b3c6f"], [0.5, "#5b8fc7"], [1.0, "#d9e3ee"]]
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#1f2933"}
FEW_TRIALS = 16  # whose numbers are all written
MOST_WORDS = 30  # characters of an axis' label


def history(sheet: Sheet, objective: Objective) -> Figure:
    """Draw each trial's value by its number, and the best so far."""
    trials = sheet.scored(objective)
    traces = []
    for status, colour in (("finished", FINISHED), ("stopped", STOPPED)):
        some = [trial for trial in trials if trial.status == status]
        if some:
            traces.append(
                _points(sheet, some, [trial.number + 1 for trial in some], [objective.of(trial) for trial in some])
                | {"name": status, "marker": {"color": colour, "size": 9, "line": {"color": "white", "width": 1}}}
            )
    bests = best_so_far(trials, objective)
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": [number for number, _ in bests],
            "y": [value for _, value in bests],
            "line": {"shape": "hv", "color": BEST, "width": 2},
            "name": "best so far",
            "hoverinfo": "skip",
        }
    )
    layout = _layout("trial", f"{objective.name} ({'less' if objective.sign > 0 else 'more'} is better)")
    layout["xaxis"] |= {"range": [0.5, len(sheet.trials) + 0.5], "tickformat": "d"}
    if len(sheet.trials) <= FEW_TRIALS:
        layout["xaxis"]["dtick"] = 1
    return {"data": traces, "layout": layout}


def importance(shares: Mapping[str, Mapping[str, float]], labels: Mapping[str, str]) -> Figure:
    """Draw how much each parameter decides, for each objective."""
    traces = []
    keys = list(next(iter(shares.values())))[::-1]
    colours = (FINISHED, BEST, "#4e9a06", "#75507b")
    for (name, each), colour in zip(shares.items(), colours * len(shares), strict=False):
        values = [each.get(key, 0.0) for key in keys]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "x": values,
                "y": [labels[key] for key in keys],
                "name": name,
                "text": [f"{value:.0%}" for value in values],
                "textposition": "outside",
                "cliponaxis": False,
                "marker": {"color": colour},
                "hovertext": keys,
                "hoverinfo": "text+x",
            }
        )
    layout = _layout("share of what varies", "")
    layout["xaxis"] |= {"range": [0, 1.08], "tickformat": ".0%"}
    layout["yaxis"]["automargin"] = True
    return {"data": traces, "layout": layout | {"showlegend": len(shares) > 1, "height": 160 + 34 * len(keys)}}


def parallel(sheet: Sheet, objective: Objective) -> Figure:
    """Draw each trial as a line through its parameters and its values."""
    trials, axes = axes_of(sheet, objective)
    values = [value for trial in trials if (value := objective.of(trial)) is not None]
    dimensions = [
        {
            "label": axis.label if len(axis.label) <= MOST_WORDS else f"…{axis.label[-MOST_WORDS:]}",
            "values": list(axis.places),
            "tickvals": [place for place, _ in axis.ticks],
            "ticktext": [text for _, text in axis.ticks],
            "range": [axis.low, axis.high],
        }
        for axis in axes
    ]
    line = {
        "color": values,
        "colorscale": SCALE,
        "reversescale": objective.sign < 0,
        "showscale": True,
        "colorbar": {"title": {"text": objective.name, "side": "right"}, "thickness": 14},
    }
    trace = {"type": "parcoords", "dimensions": dimensions, "line": line, "labelangle": -12, "labelside": "top"}
    width = 85 * len(axes) + 160
    layout = {"font": FONT, "margin": {"l": 80, "r": 40, "t": 90, "b": 40}, "height": 460, "paper_bgcolor": "white"}
    return {"data": [trace], "layout": layout, "least_width": width}


def pareto(sheet: Sheet, objectives: Sequence[Objective]) -> Figure:
    """Draw the trials by two or three objectives, those on the front apart."""
    names = [each.name for each in objectives]
    front = {trial.number for trial in sheet.pareto}
    traces = []
    for name, colour, inside in (("other trials", STOPPED, False), ("Pareto front", BEST, True)):
        some = [trial for trial in sheet.scored(*objectives) if (trial.number in front) == inside]
        if some:
            trace = _points(sheet, some, *([each.of(trial) for trial in some] for each in objectives))
            traces.append(trace | {"name": name, "marker": {"color": colour, "size": 6 if len(names) > 2 else 10}})
    if len(names) == 2:
        return {"data": traces, "layout": _layout(*names)}
    scene: Figure = {f"{axis}axis": {"title": {"text": name}} for axis, name in zip("xyz", names, strict=True)}
    scene["camera"] = {"eye": {"x": 1.6, "y": 1.6, "z": 0.9}, "center": {"x": 0, "y": 0, "z": -0.15}}
    return {
        "data": traces,
        "layout": _layout("", "") | {"scene": scene, "height": 600, "margin": {"l": 0, "r": 0, "t": 30, "b": 0}},
    }


def best_so_far(trials: Sequence[Trial], objective: Objective) -> list[tuple[int, float]]:
    """Return, by the number of each trial from 1, the best value up to it."""
    found: list[tuple[int, float]] = []
    for trial in trials:
        value = objective.of(trial)
        if value is not None:
            best = found[-1][1] if found else value
            found.append((trial.number + 1, min(best, value) if objective.sign > 0 else max(best, value)))
    return found


def _points(sheet: Sheet, trials: Sequence[Trial], *places: Sequence[Any]) -> Figure:
    kind = "scatter3d" if len(places) > 2 else "scatter"
    words = [_words(sheet, trial) for trial in trials]
    axes = dict(zip("xyz", places, strict=False))
    return {"type": kind, "mode": "markers", "hovertext": words, "hoverinfo": "text", **axes}


def _words(sheet: Sheet, trial: Trial) -> str:
    params = zip((sheet.labels[key] for key in sheet.keys), params_of(trial, sheet.keys), strict=True)
    values = [f"{each.name} {value:.5g}" for each in sheet.objectives if (value := each.of(trial)) is not None]
    lines = [f"<b>trial {trial.number + 1}</b>, {trial.status}", *values, *(f"{name}: {text}" for name, text in params)]
    return "<br>".join(lines)


def _layout(x: str, y: str) -> Figure:
    axis = {"gridcolor": "#e5e9ee", "zeroline": False, "linecolor": "#c4ccd5", "automargin": True}
    return {
        "font": FONT,
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 70, "r": 30, "t": 30, "b": 50},
        "height": 420,
        "legend": {"orientation": "h", "y": 1.08, "x": 0},
        "hoverlabel": {"align": "left"},
        "xaxis": {**axis, "title": {"text": x}},
        "yaxis": {**axis, "title": {"text": y}},
    }
