"""What to do next: a state, what was seen and the time give the next state. Pure.

The plan is part of the state. Nothing is decided while an action is open, and only a Successful analysis, the clock of
a pause or a person moves traffic forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from rayline.config import AnalysisConfig
from rayline.rollout.analysis import Measurement, Verdict, judge, label
from rayline.rollout.moves import decided, ended_analysis, entered, gone_back, overtaken, weighed, with_points
from rayline.rollout.plan import Analyse, Pause
from rayline.rollout.state import AnalysisRun, RolloutState, Tally
from rayline.serving.observation import ArmStats, Observation
from rayline.serving.plan import TrafficPlan

ERROR_LIMIT = 4
"""Measurements in a row that may fail to be taken; as in Argo Rollouts."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A measurement that only the outside world can take.

    Attributes:
        key: names it in ``Seen.external``; the same key is the same measurement.
        kind: ``prometheus``: ask ``address`` for ``text`` now. ``function``: call ``text``, a ``module:name``, with the
            service and ``version``; it returns a number.
        text: the query with everything filled in, or the function.
        address: of the Prometheus server; empty for a function.
        service: the service's name.
        version: that is measured.
    """

    key: str
    kind: Literal["prometheus", "function"]
    text: str
    address: str
    service: str
    version: int


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


def wants_external(state: RolloutState, now: float) -> tuple[Wanted, ...]:
    """Return the measurements that the next decision needs from outside the service, each once."""
    return ()


def wants_observation(state: RolloutState, now: float) -> bool:
    """Tell whether the next decision needs the service's counts."""
    run = state.analysis
    if run is None or state.actions or state.phase != "Progressing":
        return False
    return run.baseline is None or now >= run.due


def decide(state: RolloutState, seen: Seen, now: float) -> RolloutState:
    """Return the next state; the very same one where nothing is to be decided.

    Args:
        state: what has been decided so far.
        seen: the service.
        now: Unix time.
    """
    if state.final or state.actions:
        return state
    if seen.plan is not None:
        corrected = _checked(state, seen.plan, now)
        if corrected is not state:
            return corrected
    if state.waiting:
        return state
    if state.step_done:
        return entered(state, state.step + 1, now)
    match state.current:
        case Pause(seconds=float() as seconds) if now >= state.step_began + seconds:
            return entered(state, state.step + 1, now)
        case Analyse(config=config) if state.analysis is not None:
            return _measured(state, state.analysis, config, seen, now)
    return state


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
    return state


def _measured(state: RolloutState, run: AnalysisRun, config: AnalysisConfig, seen: Seen, now: float) -> RolloutState:
    if run.baseline is None and seen.observation is not None:
        due = now + config.initial_delay + config.interval
        return replace(state, analysis=replace(run, baseline=seen.observation, due=due))
    if now < run.due or (seen.observation is None and not seen.error):
        return state
    measurements = _measurements(state, run, config, seen)
    tallies = tuple(_tallied(tally, each) for tally, each in zip(run.tallies, measurements, strict=True))
    run = replace(run, tallies=tallies, rounds=run.rounds + 1, due=now + config.interval)
    state = _with_measured_points(replace(state, analysis=run), measurements)
    verdict, reason = _verdict(tallies, config)
    if verdict is None:
        return state
    state = ended_analysis(state, verdict, reason)
    if verdict == "Failed":
        return gone_back(state, now, "failed", reason)
    said = f"analysis at {state.weight} % {verdict}: {reason}"
    if verdict == "Successful":
        return decided(state, now, "analysis", said, step_done=True)
    said += ". `promote` goes on, `resume` measures again, `abort` goes back"
    return decided(state, now, "pause", said, phase="Paused", paused_for="verdict")


def _measurements(state: RolloutState, run: AnalysisRun, config: AnalysisConfig, seen: Seen) -> tuple[Measurement, ...]:
    if seen.observation is None:
        return tuple(
            Measurement(label(each), "Error", None, None, f"{label(each)} could not be measured: {seen.error}")
            for each in config.metrics
        )
    arms = seen.observation.since(run.baseline)
    stable, canary = arms.get(state.stable, ArmStats()), arms.get(state.canary, ArmStats())
    names = (f"stable v{state.stable}", f"canary v{state.canary}")
    return tuple(judge(condition, stable, canary, names=names) for condition in config.metrics)


def _tallied(tally: Tally, measurement: Measurement) -> Tally:
    verdict = measurement.verdict
    return Tally(
        measure=tally.measure,
        successful=tally.successful + (verdict == "Successful"),
        failed=tally.failed + (verdict == "Failed"),
        inconclusive=tally.inconclusive + (verdict == "Inconclusive"),
        errors_in_a_row=tally.errors_in_a_row + 1 if verdict == "Error" else 0,
        last=measurement,
    )


def _verdict(tallies: tuple[Tally, ...], config: AnalysisConfig) -> tuple[Verdict | None, str]:
    """Return how an analysis ended, or None while it goes on.

    Success needs every condition Successful ``count`` times, and in the latest round too: the window only grows, so
    the latest measurement is the one that knows most.
    """
    broken = [tally for tally in tallies if tally.failed > config.failure_limit]
    if broken:
        worst = next((each for each in broken if each.last and each.last.verdict == "Failed"), broken[0])
        return "Failed", _reason(worst)
    for tally in tallies:
        if tally.errors_in_a_row > ERROR_LIMIT:
            return "Error", _reason(tally)
    if all(each.successful >= config.count and each.last and each.last.verdict == "Successful" for each in tallies):
        return "Successful", "; ".join(_reason(tally) for tally in tallies)
    for tally in tallies:
        if tally.inconclusive > config.inconclusive_limit:
            return "Inconclusive", _reason(tally)
    return None, ""


def _reason(tally: Tally) -> str:
    return tally.last.reason if tally.last else tally.measure


def _with_measured_points(state: RolloutState, measurements: tuple[Measurement, ...]) -> RolloutState:
    values: dict[str, float] = {}
    for each in measurements:
        name = each.measure.replace(" ", "_")
        if each.value is not None:
            values[f"{name}.canary"] = each.value
        if each.baseline is not None:
            values[f"{name}.stable"] = each.baseline
    return with_points(state, values) if values else state


def _weights(state: RolloutState) -> dict[int, int]:
    return {state.stable: 100 - state.weight, state.canary: state.weight}


def _shown(weights: dict[int, int]) -> str:
    return ", ".join(f"v{number} {weight} %" for number, weight in sorted(weights.items()))
