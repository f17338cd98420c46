"""How long each step of a rollout takes, known before it starts, and what is left of the one under way. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rayline.config import AnalysisConfig
from rayline.rollout.state import AnalysisRun, RolloutState
from rayline.rollout.steps import Analyse, Ask, Bake, Pause, PlanStep


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds that something takes, or still takes.

    Attributes:
        least: where nothing delays it.
        most: the longest; infinite where a person or the data decide.
        person: it waits for a person.
    """

    least: float
    most: float
    person: bool = False

    def plus(self, other: Span) -> Span:
        """Return both, one after the other."""
        return Span(self.least + other.least, self.most + other.most, self.person or other.person)


NOTHING = Span(0.0, 0.0)
PERSON = Span(0.0, math.inf, person=True)


def span(step: PlanStep) -> Span:
    """Return how long a step takes, but for the moment in which every replica follows."""
    match step:
        case Pause(seconds=None):
            return PERSON
        case Pause(seconds=float() as seconds) | Bake(seconds=seconds):
            return Span(seconds, seconds)
        case Analyse(config=config):
            return _rounds(config, config.initial_delay + config.interval, config.count, 0)
        case Ask(config=config):
            return Span(float(config.interval), float(config.max_duration))
    return NOTHING


def left(state: RolloutState, now: float) -> tuple[Span, ...]:
    """Return what is left of each step of the plan, in order; nothing of those that are over.

    Args:
        state: the rollout.
        now: Unix time.
    """
    return tuple(_left(state, place, step, now) for place, step in enumerate(state.plan.steps))


def total(spans: tuple[Span, ...]) -> Span:
    """Return all, one after the other."""
    whole = NOTHING
    for each in spans:
        whole = whole.plus(each)
    return whole


def _left(state: RolloutState, place: int, step: PlanStep, now: float) -> Span:
    if state.final or place < state.step or (place == state.step and state.step_done):
        return NOTHING
    if place > state.step:
        return span(step)
    if state.waiting:
        return PERSON
    if isinstance(step, Analyse) and state.analysis is not None:
        return _analysis_left(state.analysis, step.config, now)
    whole, gone = span(step), max(0.0, now - state.step_began)
    return Span(max(0.0, whole.least - gone), max(0.0, whole.most - gone), whole.person)


def _analysis_left(run: AnalysisRun, config: AnalysisConfig, now: float) -> Span:
    missing = [config.count - tally.successful for tally in run.tallies] or [config.count]
    open_ones = max((tally.inconclusive for tally in run.tallies), default=0)
    return _rounds(config, max(0.0, run.due - now), max(1, *missing, 1), open_ones)


def _rounds(config: AnalysisConfig, first: float, rounds: int, inconclusive: int) -> Span:
    """``first`` seconds to the next measurement, ``rounds`` of them at least, and as many more as may stay open."""
    least = first + (rounds - 1) * float(config.interval)
    spare = max(0, config.inconclusive_limit - inconclusive) + config.failure_limit
    return Span(least, least + spare * float(config.interval))
