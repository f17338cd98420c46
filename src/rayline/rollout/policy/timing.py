"""Deadlines, clocks that jump, and how long each step will take. Pure."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from rayline.rollout.plans.plan import Analyse, Ask, Bake, Pause, Plan, PlanStep
from rayline.rollout.state import AnalysisRun, RolloutState

SLACK_S = 1.0
"""A clock may be set back by this much without notice."""


def expires(state: RolloutState) -> float | None:
    """Return the Unix time by which something must have moved; None where a person or a clock is waited for."""
    if state.final:
        return None
    if state.actions:
        return max(state.updated, state.progressed) + state.plan.progress_deadline
    if state.phase == "Progressing" and state.analysis is not None and isinstance(state.current, Analyse | Ask):
        return state.analysis.due + state.plan.progress_deadline
    return None


def expired(state: RolloutState, now: float) -> bool:
    """Tell whether nothing has moved for too long."""
    end = expires(state)
    return end is not None and now > end


def rebased(state: RolloutState, now: float) -> RolloutState:
    """Return the state with its times set back as the clock was; the very same where it was not.

    The clock's last known reading is the last decision's: what has passed since then counts as nothing.
    """
    last = max(state.updated, state.progressed)
    back = now - last
    if back >= -SLACK_S:
        return state
    moved: dict[str, Any] = {
        field: getattr(state, field) + back for field in ("began", "updated", "progressed", "step_began")
    }
    actions = tuple(replace(each, not_before=each.not_before + back) for each in state.actions)
    runs = {field: _moved(getattr(state, field), back) for field in ("analysis", "background")}
    return replace(state, **moved, **runs, actions=actions)


def _moved(run: AnalysisRun | None, back: float) -> AnalysisRun | None:
    return None if run is None else replace(run, due=run.due + back, began=run.began + back)


def expected(plan: Plan) -> tuple[float | None, ...]:
    """Return the seconds that each step will take where all goes well; None where it waits for a person.

    An experiment may be decided sooner; what is given is the longest.
    """
    return tuple(_seconds(step) for step in plan.steps)


def left(state: RolloutState, now: float) -> float | None:
    """Return the seconds that the present step still needs where all goes well; None where a person is waited for."""
    step = state.current
    if state.final or step is None or state.step_done:
        return 0.0
    if state.waiting:
        return None
    run = state.analysis
    if isinstance(step, Analyse) and run is not None:
        wanted = step.config.count - min((each.successful for each in run.tallies if not each.dry_run), default=0)
        return max(0.0, run.due - now) + max(0, wanted - 1) * step.config.interval
    whole = _seconds(step)
    return None if whole is None else max(0.0, state.step_began + whole - now)


def _seconds(step: PlanStep) -> float | None:
    match step:
        case Pause(seconds=seconds):
            return seconds
        case Bake(seconds=seconds):
            return seconds
        case Analyse(config=config):
            return config.initial_delay + config.interval * config.count
        case Ask(config=asked):
            return asked.max_duration
    return 0.0
