"""What to do next: a state, what was seen and the time give the next state. Pure.

The plan is part of the state. Nothing is decided while an action is open, but that it has been open for too long; and
only a Successful analysis, an experiment's answer, the clock of a pause or a person moves traffic forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from rayline.config import AnalysisConfig, ExperimentConfig
from rayline.rollout.analysis.analysis import Measurement
from rayline.rollout.analysis.external import Wanted
from rayline.rollout.plans.plan import Analyse, Ask, Bake, Pause
from rayline.rollout.policy import asking, rounds
from rayline.rollout.policy.account import (
    decided,
    ended_analysis,
    ended_background,
    mirrored,
    routed,
    weighed,
    with_points,
)
from rayline.rollout.policy.entering import entered
from rayline.rollout.policy.moves import breached, concluded, gone_back, overtaken
from rayline.rollout.policy.rounds import Arms, Read
from rayline.rollout.policy.timing import expired, rebased
from rayline.rollout.state import AnalysisRun, RolloutState
from rayline.serving.records.observation import Observation
from rayline.serving.traffic.plan import Mirror, TrafficPlan

__all__ = ["Seen", "Wanted", "decide", "tended", "wants_external", "wants_observation"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the controller saw: the traffic plan in force and the counts so far, where they could be read.

    Attributes:
        plan: None where it could not be read.
        observation: None where it was not asked for, or could not be read.
        error: why the counts could not be read.
        external: of what ``wants_external`` named, by key: the number, or in words why there is none.
    """

    plan: TrafficPlan | None = None
    observation: Observation | None = None
    error: str = ""
    external: Mapping[str, float | str] = field(default_factory=dict)


def wants_observation(state: RolloutState, now: float) -> bool:
    """Tell whether the next decision needs the service's counts."""
    return any(
        (config is None or rounds.needs_counts(config)) and (run.baseline is None or now >= run.due)
        for run, config in _running(state)
    )


def wants_external(state: RolloutState, now: float) -> tuple[Wanted, ...]:
    """Return the measurements that the next decision needs from outside the service, each once."""
    found: dict[str, Wanted] = {}
    for run, config in _running(state):
        if config is not None and now >= run.due:
            found.update({each.key: each for each in rounds.wanted_outside(config, _arms(state))})
    return tuple(found.values())


def tended(state: RolloutState, now: float) -> RolloutState:
    """Return the state after what time alone decides, whether or not an action is open; the very same where nothing.

    A clock that was set back is followed, so that no wait grows by that; and a rollout whose action has been open for
    longer than its ``progress_deadline`` goes back.
    """
    if state.final:
        return rebased(state, now)
    state = rebased(state, now)
    if state.actions and expired(state, now):
        what = type(state.actions[0]).__name__
        reason = f"no progress for {state.plan.progress_deadline:g} s (progress_deadline): {what} is not acknowledged"
        return gone_back(state, now, "deadline", reason)
    return state


def decide(state: RolloutState, seen: Seen, now: float) -> RolloutState:
    """Return the next state; the very same one where nothing is to be decided.

    Args:
        state: what has been decided so far.
        seen: the service.
        now: Unix time.
    """
    after = tended(state, now)
    if after is not state or state.final or state.actions:
        return after
    if seen.plan is not None:
        after = _checked(state, seen.plan, now)
    if after is state:
        after = _beside(state, seen, now)
    if after is not state or state.waiting:
        return after
    if state.step_done:
        return entered(state, state.step + 1, now)
    return _stepped(state, seen, now)


def _stepped(state: RolloutState, seen: Seen, now: float) -> RolloutState:
    """Return what the present step makes of what was seen."""
    after, run = state, state.analysis
    match state.current:
        case Pause(seconds=float() as seconds) if now >= state.step_began + seconds:
            return entered(state, state.step + 1, now)
        case Analyse(config=config) if run is not None:
            after = _measured(state, run, config, seen, now)
        case Ask(config=asked) if run is not None:
            after = _asked(state, run, asked, seen, now)
        case Bake(seconds=seconds, watch=watch):
            if watch is not None and run is not None:
                after = _baked(state, run, watch, seen, now)
            if after is state and now >= state.step_began + seconds:
                return entered(ended_analysis(state, "Successful", "nothing was wrong"), state.step + 1, now)
            return after
    if after is state and expired(state, now):
        reason = f"no progress for {state.plan.progress_deadline:g} s (progress_deadline): nothing could be measured"
        return gone_back(state, now, "deadline", reason)
    return after


def _running(state: RolloutState) -> list[tuple[AnalysisRun, AnalysisConfig | None]]:
    """Return the analyses that may look now, with their configuration; an experiment has none."""
    found: list[tuple[AnalysisRun, AnalysisConfig | None]] = []
    if state.final or state.actions:
        return found
    if state.analysis is not None and state.phase == "Progressing":
        match state.current:
            case Analyse(config=config) | Bake(watch=AnalysisConfig() as config):
                found.append((state.analysis, config))
            case Ask():
                found.append((state.analysis, None))
    if state.background is not None and state.plan.background is not None and _watches(state):
        found.append((state.background, state.plan.background))
    return found


def _watches(state: RolloutState) -> bool:
    """Tell whether the analysis beside the steps looks: with the canary in use, and not while a person holds all."""
    return bool(state.weight or state.mirror) and state.paused_for not in ("hand", "breach")


def _checked(state: RolloutState, plan: TrafficPlan, now: float) -> RolloutState:
    """Compare the traffic plan in force with what was decided."""
    wanted = {number: weight for number, weight in _weights(state).items() if weight}
    actual = {number: weight for number, weight in plan.weights.items() if weight}
    live = plan.numbers
    if plan.stable != state.stable or state.stable not in live or state.canary not in live:
        shares = ", ".join(f"v{number} {weight} %" for number, weight in sorted(actual.items()))
        reason = f"the traffic was changed from outside ({shares}); this rollout leaves it alone"
        return overtaken(state, now, reason)
    if actual != wanted:
        reason = f"weights were {_shown(actual)}; they are set to {_shown(wanted)} again"
        return weighed(decided(state, now, "set_weight", reason))
    if plan.mirror != (Mirror(state.canary, state.mirror) if state.mirror else None):
        return mirrored(decided(state, now, "set_mirror", "copies of requests were changed; they are set again"))
    if plan.routes != state.routes:
        return routed(decided(state, now, "set_header_route", "routes by header were changed; they are set again"))
    return state


def _round(
    state: RolloutState, run: AnalysisRun, config: AnalysisConfig, seen: Seen, now: float
) -> tuple[AnalysisRun, tuple[Measurement, ...]]:
    """Return an analysis after it began or looked, where it is time to and all was read; else the very same."""
    arms, read = _arms(state), Read(seen.observation, seen.error, seen.external)
    if run.baseline is None and rounds.needs_counts(config) and seen.observation is not None:
        first = config.interval + (0.0 if run.rounds else config.initial_delay)
        return replace(run, baseline=rounds.pared(config, seen.observation), due=now + first), ()
    if now < run.due or not rounds.ready(config, run, arms, read):
        return run, ()
    return rounds.measured(config, run, arms, read, now, state.plan.alpha)


def _measured(state: RolloutState, run: AnalysisRun, config: AnalysisConfig, seen: Seen, now: float) -> RolloutState:
    run, found = _round(state, run, config, seen, now)
    if run is state.analysis:
        return state
    state = _pointed(replace(state, analysis=run), found)
    verdict, reason = rounds.ended(run, config)
    if verdict is None:
        return state
    state = ended_analysis(state, verdict, reason)
    if verdict == "Failed":
        return breached(state, now, reason, config.on_breach)
    said = f"analysis at {state.weight} % {verdict}: {reason}"
    if verdict == "Successful":
        return decided(state, now, "analysis", said, step_done=True)
    return _unsure(state, now, said)


def _baked(state: RolloutState, run: AnalysisRun, config: AnalysisConfig, seen: Seen, now: float) -> RolloutState:
    run, found = _round(state, run, config, seen, now)
    if run is state.analysis:
        return state
    state = _pointed(replace(state, analysis=run), found)
    verdict, reason = rounds.alarm(run, config)
    if verdict is None:
        return state
    state = ended_analysis(state, verdict, reason)
    if verdict == "Failed":
        return breached(state, now, f"while baking: {reason}", config.on_breach)
    return _unsure(state, now, f"while baking: {verdict}: {reason}")


def _beside(state: RolloutState, seen: Seen, now: float) -> RolloutState:
    """Return what the analysis beside the steps makes of what was seen."""
    run, config = state.background, state.plan.background
    if run is None or config is None or not _watches(state):
        return state
    run, found = _round(state, run, config, seen, now)
    if run is state.background:
        return state
    state = _pointed(replace(state, background=run), found)
    verdict, reason = rounds.alarm(run, config)
    if verdict is None:
        return state
    state = ended_background(state, verdict, reason)
    if verdict == "Failed":
        return breached(state, now, f"in the background: {reason}", config.on_breach)
    return _unsure(state, now, f"background analysis at {state.weight} % {verdict}: {reason}")


def _asked(state: RolloutState, run: AnalysisRun, config: ExperimentConfig, seen: Seen, now: float) -> RolloutState:
    if run.baseline is None and seen.observation is not None:
        baseline = seen.observation.only(columns=False, slices=False)
        return replace(state, analysis=replace(run, baseline=baseline, due=now + config.interval))
    if now < run.due or (seen.observation is None and not seen.error):
        return state
    run, found = asking.looked(config, run, _arms(state), seen.observation, seen.error, now)
    state = _pointed(replace(state, analysis=run), (found,))
    verdict, reason = asking.answered(config, run, now)
    if verdict == "":
        return state
    state = ended_analysis(state, "Successful" if verdict in ("canary", "stable", "equal") else "Inconclusive", reason)
    if verdict == "error":
        return _unsure(state, now, reason)
    if verdict == "canary" or not state.plan.moves:
        return decided(state, now, "experiment", reason, step_done=True)
    return concluded(state, now, f"v{state.stable} keeps the traffic: {reason}")


def _unsure(state: RolloutState, now: float, said: str) -> RolloutState:
    waits: dict[str, Any] = {"phase": "Paused", "paused_for": "verdict"}
    ways = "`promote` goes on, `resume` measures again, `abort` goes back"
    return decided(state, now, "pause", f"{said}. {ways}", **waits)


def _pointed(state: RolloutState, measurements: tuple[Measurement, ...]) -> RolloutState:
    values: dict[str, float] = {}
    for each in measurements:
        name = each.measure.replace(" ", "_")
        if each.value is not None:
            values[f"{name}.canary"] = each.value
        if each.baseline is not None:
            values[f"{name}.stable"] = each.baseline
    return with_points(state, values) if values else state


def _arms(state: RolloutState) -> Arms:
    return Arms(state.service, state.stable, state.canary)


def _weights(state: RolloutState) -> dict[int, int]:
    return {state.stable: 100 - state.weight, state.canary: state.weight}


def _shown(weights: dict[int, int]) -> str:
    return ", ".join(f"v{number} {weight} %" for number, weight in sorted(weights.items()))
