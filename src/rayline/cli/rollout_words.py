"""Steps and times of a rollout in words."""

from __future__ import annotations

from rayline.rollout.analysis.analysis import label
from rayline.rollout.plans.outlook import Span
from rayline.rollout.plans.steps import (
    Analyse,
    Ask,
    Bake,
    Conclude,
    MirrorTraffic,
    Pause,
    PlanStep,
    RouteHeader,
    SetWeight,
)


def step_words(step: PlanStep) -> str:
    """Return what a step does, in a few words."""
    match step:
        case SetWeight(weight=weight):
            return f"weight {weight} %"
        case Pause(seconds=None):
            return "pause until promoted"
        case Pause():
            return "pause"
        case Analyse(config=config):
            return f"analysis of {', '.join(label(each) for each in config.metrics)}"
        case MirrorTraffic(percent=percent):
            return f"mirror {percent} % of the requests" if percent else "end the mirror"
        case RouteHeader(header=header, value=value):
            return f"route {header}: {value}" if header else "end the route"
        case Bake():
            return "bake with all traffic"
        case Ask(config=config):
            return f"experiment: {config.measure.replace('_', ' ')}"
        case Conclude():
            return "conclude"


def span_words(span: Span, *, begun: bool) -> str:
    """Return how long a step takes, or how much of it is left where it has ``begun``; empty where it is a moment."""
    left = " left" if begun else ""
    if span.person:
        return "waits for a person" if begun else "as long as a person takes"
    if span.most == 0.0:
        return ""
    if span.most == span.least:
        return f"{seconds_words(span.least)}{left}"
    if span.least == 0.0:
        return f"{seconds_words(span.most)}{left} at most"
    return f"{seconds_words(span.least)} to {seconds_words(span.most)}{left}"


def seconds_words(seconds: float) -> str:
    """Return a time in its two largest units: ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``, ``6 d 4 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, small, name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit} {rest} {name}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def latency_words(seconds: float | None) -> str:
    """Return a latency: ``0.84 ms``, ``12 ms``, ``1.3 s``; a dash where there is none."""
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.2g} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"
