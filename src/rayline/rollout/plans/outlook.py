"""What is left of each step of a rollout, known before it starts: at least and at most. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rayline.rollout.plans.steps import Analyse, Ask, PlanStep
from rayline.rollout.policy import timing
from rayline.rollout.state import AnalysisRun, RolloutState


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds that something still takes, but for the moments in which every replica follows.

    Attributes:
        least: where nothing delays it.
        most: the longest; infinite where a person is waited for.
    """

    least: float
    most: float

    @property
    def person(self) -> bool:
        """Whether it waits for a person."""
        return math.isinf(self.most)


NOTHING = Span(0.0, 0.0)
PERSON = Span(0.0, math.inf)


def outlook(state: RolloutState, now: float) -> tuple[Span, ...]:
    """Return what is left of each step of the plan, in order; nothing of those that are over.

    Args:
        state: the rollout.
        now: Unix time.
    """
    whole = timing.expected(state.plan)
    spans = []
    for place, step in enumerate(state.plan.steps):
        if state.final or place < state.step or (place == state.step and state.step_done):
            spans.append(NOTHING)
        elif place == state.step:
            spans.append(_span(step, timing.left(state, now), state.analysis))
        else:
            spans.append(_span(step, whole[place], None))
    return tuple(spans)


def least(spans: tuple[Span, ...]) -> float:
    """Return the seconds that all of them take at least."""
    return sum(each.least for each in spans)


def _span(step: PlanStep, seconds: float | None, run: AnalysisRun | None) -> Span:
    if seconds is None:
        return PERSON
    if isinstance(step, Ask):  # decided as soon as the data say
        return Span(0.0, seconds)
    if isinstance(step, Analyse):
        config = step.config
        gone = max((tally.inconclusive + tally.failed for tally in run.tallies), default=0) if run else 0
        spare = max(0, config.inconclusive_limit + config.failure_limit - gone)
        return Span(seconds, seconds + spare * config.interval)
    return Span(seconds, seconds)
