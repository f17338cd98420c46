"""What happens at the beginning of each kind of step. Pure."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from rayline.config import AnalysisConfig, ExperimentConfig
from rayline.rollout.analysis.measures import label
from rayline.rollout.plans.plan import Analyse, Ask, Bake, Conclude, MirrorTraffic, Pause, RouteHeader, SetWeight
from rayline.rollout.policy.account import decided, mirrored, routed, weighed, with_points
from rayline.rollout.policy.moves import concluded, taken_over
from rayline.rollout.policy.rounds import fresh
from rayline.rollout.state import AnalysisRun, RolloutState, Tally
from rayline.serving.traffic.plan import HeaderRoute


def entered(state: RolloutState, position: int, now: float) -> RolloutState:
    """Return the state at the beginning of a step; past the last one the canary takes over for good."""
    state = replace(state, step=position, step_began=now, phase="Progressing", paused_for="", step_done=True)
    if position >= len(state.plan.steps):
        return taken_over(state, now)
    state = _watched(state, position, now)
    match state.plan.steps[position]:
        case SetWeight(weight=weight):
            reason = f"v{state.canary} gets {weight} % of the traffic"
            after = decided(_anew(state), now, "set_weight", reason, weight=weight)
            return weighed(with_points(after, {"weight": float(weight)}))
        case Pause(seconds=seconds):
            return _paused(state, seconds, now)
        case MirrorTraffic(percent=percent):
            return mirrored(decided(state, now, "set_mirror", _copies(state, percent), mirror=percent))
        case RouteHeader() as route:
            return _routed(state, route, now)
        case Conclude():
            return concluded(state, now, _conclusion(state))
        case Analyse() | Bake() | Ask() as step:
            return _begun(state, step, now)


def fresh_analysis(state: RolloutState, now: float) -> AnalysisRun | None:
    """Return the analysis of the present step before its first look; None where the step has none."""
    match state.current:
        case Analyse(config=config) | Bake(watch=AnalysisConfig() as config):
            return fresh(config, state.step, state.weight, now)
        case Ask(config=config):
            tally = Tally(config.measure.replace("_", " "))
            return AnalysisRun(state.step, state.weight, now + config.interval, (tally,), began=now)
    return None


def _begun(state: RolloutState, step: Analyse | Bake | Ask, now: float) -> RolloutState:
    match step:
        case Analyse(config=config):
            measures = ", ".join(label(condition) for condition in config.metrics)
            where = f"at {state.weight} %" + (f" with {state.mirror} % copied" if state.mirror else "")
            reason = f"analysis {where}: {measures}, {config.count} times, every {config.interval:g} s"
            what = "analysis"
        case Bake(seconds=seconds):
            what = "bake"
            reason = (
                f"v{state.canary} has {state.weight} % and bakes for {seconds:g} s; v{state.stable} stays loaded, and "
                "`abort` returns to it at once"
            )
        case Ask(config=asked):
            what, reason = "experiment", _question(state, asked)
    return decided(state, now, what, reason, step_done=False, analysis=fresh_analysis(state, now))


def _paused(state: RolloutState, seconds: float | None, now: float) -> RolloutState:
    waits: dict[str, Any] = {"step_done": False, "phase": "Paused", "paused_for": "time"}
    if seconds is None:
        waits["paused_for"] = "promote"
        return decided(state, now, "pause", f"waits at {state.weight} % for `promote`{_preview(state)}", **waits)
    return decided(state, now, "pause", f"waits {seconds:g} s at {state.weight} %{_preview(state)}", **waits)


def _preview(state: RolloutState) -> str:
    shown = ", ".join(f"'{route.header}: {route.value}'" for route in state.routes)
    return f"; preview v{state.canary} with header {shown}" if shown else ""


def _copies(state: RolloutState, percent: int) -> str:
    if not percent:
        return f"v{state.canary} gets no more copies of requests"
    return f"v{state.canary} gets copies of {percent} % of the requests; what it says is compared and dropped"


def _routed(state: RolloutState, route: RouteHeader, now: float) -> RolloutState:
    if route.header is None:
        reason = f"no header leads to v{state.canary} any more"
        return routed(decided(state, now, "set_header_route", reason, routes=()))
    routes = (HeaderRoute(route.header, route.value, state.canary),)
    reason = (
        f"preview: /{state.service}/predict with header '{route.header}: {route.value}' is answered by v{state.canary}"
        f", as it is with 'x-rayline-version: {state.canary}'"
    )
    return routed(decided(state, now, "set_header_route", reason, routes=routes))


def _question(state: RolloutState, asked: ExperimentConfig) -> str:
    measure = asked.measure.replace("_", " ")
    return (
        f"experiment at {state.weight} %: is v{state.canary} better than v{state.stable} by {measure}? Looked at every "
        f"{asked.interval:g} s, at {asked.confidence:.4g} confidence, for at most {asked.max_samples} rows of feedback"
    )


def _conclusion(state: RolloutState) -> str:
    said = state.analyses[-1].reason if state.analyses else "nothing was measured"
    return f"v{state.stable} keeps the traffic, as the plan says: {said}"


def _watched(state: RolloutState, position: int, now: float) -> RolloutState:
    """Return the state with the analysis beside the steps begun, where its time has come."""
    background = state.plan.background
    if background is None or state.background is not None or position + 1 < background.from_step:
        return state
    return replace(state, background=fresh(background, position, state.weight, now))


def _anew(state: RolloutState) -> RolloutState:
    """Return the state whose background window begins anew: shares of the traffic that change are not mixed."""
    if state.background is None:
        return state
    return replace(state, background=replace(state.background, baseline=None))
