"""The axes of parallel coordinates: where each trial lies on each, and what is written beside it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rayline.config import Space
from rayline.tuning.ledger import Trial
from rayline.tuning.page.sheet import ABSENT, Objective, Sheet, text_of

FEW = 12  # choices that are all written
TICKS = 5
BELOW = 0.12  # of an axis' length, where trials lie in which the parameter was not searched


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        label: what stands above it.
        places: of each trial, in the axis' own unit.
        ticks: places and what is written there.
        low, high: its ends.
    """

    label: str
    places: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]
    low: float
    high: float

    def share(self, place: float) -> float:
        """Return a place as a share (0 to 1) of the axis."""
        return (place - self.low) / (self.high - self.low)


def axes_of(sheet: Sheet, objective: Objective) -> tuple[tuple[Trial, ...], tuple[Axis, ...]]:
    """Return the trials with a result, and an axis for every searched parameter and each objective."""
    trials = sheet.scored(*sheet.objectives) or sheet.scored(objective)
    axes = [
        _parameter(sheet.labels[key], sheet.space[key], [trial.params.get(key) for trial in trials])
        for key in sheet.keys
    ]
    axes += [
        _number(each.name, [value for trial in trials if (value := each.of(trial)) is not None], log=False, space=None)
        for each in sheet.objectives
        if all(each.of(trial) is not None for trial in trials)
    ]
    return trials, tuple(axes)


def _parameter(label: str, space: Space, values: Sequence[Any]) -> Axis:
    if space.choose is not None:
        return _choice(label, space.choose, values)
    return _number(label, [None if value is None else float(value) for value in values], log=space.log, space=space)


def _choice(label: str, choices: Sequence[Any], values: Sequence[Any]) -> Axis:
    texts = [ABSENT if value is None else text_of(value) for value in values]
    known = [ABSENT] * (ABSENT in texts) + [text_of(each) for each in choices]
    known += [each for each in dict.fromkeys(texts) if each not in known]
    shown = known if len(known) <= FEW else [each for each in known if each in set(texts)]
    ticks = tuple((float(known.index(each)), each) for each in shown)
    return Axis(label, tuple(float(known.index(each)) for each in texts), ticks, -0.5, len(known) - 0.5)


def _number(label: str, values: Sequence[float | None], *, log: bool, space: Space | None) -> Axis:
    there = [value for value in values if value is not None]
    ends = [each for each in (space.low, space.high) if each is not None] if space is not None else []
    low, high = min([*there, *ends]), max([*there, *ends])
    places = [None if value is None else (math.log10(value) if log else value) for value in values]
    first, last = (math.log10(low), math.log10(high)) if log else (low, high)
    if first == last:
        first, last = first - 0.5, last + 0.5
    ticks = [(place, text_of(10**place)) for place in _decades(first, last)] if log else []
    ticks = ticks or [(place, text_of(10**place if log else place)) for place in _even(first, last)]
    if space is not None and space.integer:
        ticks = [(place, text) for place, text in ticks if float(text).is_integer()] or ticks
    if None in places:
        absent = first - BELOW * (last - first)
        ticks.insert(0, (absent, ABSENT))
        places = [absent if place is None else place for place in places]
        first = absent
    return Axis(label, tuple(place for place in places if place is not None), tuple(ticks), first, last)


def _decades(first: float, last: float) -> list[float]:
    """Return the powers of ten between two logarithms, with their double and fivefold where they are few."""
    factors = (1, 2, 5) if last - first < 2.5 else (1,)
    powers = range(math.floor(first), math.ceil(last) + 1)
    found = [power + math.log10(factor) for power in powers for factor in factors]
    return [place for place in found if first - 1e-9 <= place <= last + 1e-9]


def _even(first: float, last: float) -> list[float]:
    """Return about five round numbers between two."""
    step = 10 ** math.floor(math.log10((last - first) / TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if (last - first) / (step * factor) <= TICKS)
    begin = math.ceil(first / step)
    found = [round(place * step, 12) for place in range(begin, math.floor(last / step + 1e-9) + 1)]
    return found if len(found) > 1 else [first, last]
