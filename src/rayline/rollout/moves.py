"""The moves of a rollout: begin, enter a step, hear of an action, go back. Each gives the next state. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from rayline.config import HookConfig
from rayline.rollout.analysis import Verdict, label
from rayline.rollout.notes import (
    CallHook,
    Decisions,
    DropAlias,
    FinishRun,
    Note,
    OpenRun,
    Points,
    SetAlias,
    TagVersion,
    added,
    without,
)
from rayline.rollout.plan import Analyse, Pause, Plan, SetWeight
from rayline.rollout.state import (
    Action,
    AnalysisRun,
    Decision,
    Load,
    Place,
    RolloutState,
    SetMirror,
    SetRoutes,
    SetWeights,
    Tally,
    Unload,
)
from rayline.serving.plan import LiveVersion

TAG = "rayline.rollout"
REASON_TAG = "rayline.rollout.reason"

FORWARD_ATTEMPTS = {Load: 3, SetWeights: 5, SetMirror: 5, SetRoutes: 5, Place: 3, Unload: 5}
FIRST_RETRY_S, LAST_RETRY_S = 0.2, 5.0


def begin(
    *,
    id: str,  # noqa: A002 - the field's own name
    kind: Literal["rollout", "undo"],
    plan: Plan,
    service: str,
    stable: LiveVersion,
    canary: LiveVersion,
    now: float,
    experiment: str,
    tracking_uri: str | None,
    request: str = "",
    note: str = "",
    earlier: RolloutState | None = None,
    hooks: tuple[HookConfig, ...] = (),
) -> RolloutState:
    """Return a new rollout, about to load its canary. What ``earlier`` left for the tracking store is taken along.

    ``note`` is what its first decision says besides.
    """
    steps = "at once" if plan.strategy == "all_at_once" else f"in {len(plan.steps)} steps"
    state = RolloutState(
        id=id,
        kind=kind,
        service=service,
        plan=plan,
        stable_version=stable,
        canary_version=canary,
        phase="Progressing",
        began=now,
        updated=now,
        experiment=experiment,
        tracking_uri=tracking_uri,
        requests=(request,) if request else (),
        notes=earlier.notes if earlier else (),
        runs=earlier.runs if earlier and earlier.notes else {},
        hooks=hooks,
    )
    tags = {
        "rayline.kind": "rollout",
        "rayline.project": service,
        "rayline.rollout": id,
        "rayline.rollout.stable": str(stable.number),
        "rayline.rollout.canary": str(canary.number),
    }
    notes: list[Note] = [OpenRun(id, experiment, f"{service}-{kind}-v{stable.number}-v{canary.number}", tags)]
    if kind == "rollout":
        notes.append(SetAlias("challenger", canary.number))
    notes.append(TagVersion(canary.number, {TAG: "Progressing", REASON_TAG: f"{kind} from v{stable.number}"}))
    state = _queued(_noted(state, *notes), Load(0, canary))
    reason = f"v{canary.number} is to take over from v{stable.number} {steps}: loading it"
    return decided(state, now, "start", f"{reason}; {note}" if note else reason)


def decided(state: RolloutState, now: float, what: str, reason: str, **changes: Any) -> RolloutState:
    """Return the state after one decision: recorded, and noted for the tracking store.

    The message of a rollout that is final stays: it says why it ended as it did.
    """
    message = state.message if state.final else reason
    after = replace(state, **{"message": message, "updated": now, **changes})
    after = replace(after, decisions=(*after.decisions, Decision(now, what, after.weight, reason)))
    return _noted(after, Decisions(after.id, _account(after)))


def entered(state: RolloutState, position: int, now: float) -> RolloutState:
    """Return the state at the beginning of a step; past the last one the canary takes over for good."""
    at = {"step": position, "step_began": now, "phase": "Progressing", "paused_for": ""}
    if position >= len(state.plan.steps):
        whole = SetWeights(0, state.canary, {state.canary: 100})
        state = _queued(state, whole, Unload(0, state.stable))
        return decided(state, now, "complete", f"v{state.canary} takes over from v{state.stable}", **at)
    match state.plan.steps[position]:
        case SetWeight(weight=weight):
            reason = f"v{state.canary} gets {weight} % of the traffic"
            after = decided(state, now, "set_weight", reason, **at, step_done=True, weight=weight)
            return weighed(with_points(after, {"weight": float(weight)}))
        case Pause(seconds=None):
            waits: dict[str, Any] = {**at, "step_done": False, "phase": "Paused", "paused_for": "promote"}
            return decided(state, now, "pause", f"waits at {state.weight} % for `promote`", **waits)
        case Pause(seconds=seconds):
            waits = {**at, "step_done": False, "phase": "Paused", "paused_for": "time"}
            return decided(state, now, "pause", f"waits {seconds:g} s at {state.weight} %", **waits)
        case Analyse(config=config):
            measures = ", ".join(label(condition) for condition in config.metrics)
            reason = f"analysis at {state.weight} %: {measures}, {config.count} times, every {config.interval:g} s"
            run = fresh_analysis(state, position, config, now)
            return decided(state, now, "analysis", reason, **at, step_done=False, analysis=run)


def fresh_analysis(state: RolloutState, position: int, config: Any, now: float) -> AnalysisRun:
    """Return an analysis that has measured nothing yet."""
    tallies = tuple(Tally(label(condition)) for condition in config.metrics)
    return AnalysisRun(position, state.weight, now + config.initial_delay + config.interval, tallies)


def weighed(state: RolloutState) -> RolloutState:
    """Return the state with the wish that the traffic be as last decided."""
    weights = {state.stable: 100 - state.weight, state.canary: state.weight}
    return _queued(state, SetWeights(0, state.stable, weights))


def ended_analysis(state: RolloutState, verdict: Verdict, reason: str) -> RolloutState:
    """Return the state without a running analysis; what it found is kept, less its baseline."""
    if state.analysis is None:
        return state
    run = replace(state.analysis, verdict=verdict, reason=reason, baseline=None)
    return replace(state, analysis=None, analyses=(*state.analyses, run))


def gone_back(state: RolloutState, now: float, what: str, reason: str) -> RolloutState:
    """Return the state that gives the stable version all traffic, whatever was about to happen."""
    state = ended_analysis(state, "Inconclusive", "ended with the rollout")
    state = _queued(
        replace(state, actions=()), SetWeights(0, state.stable, {state.stable: 100}), Unload(0, state.canary)
    )
    return _degraded(state, now, what, reason)


def overtaken(state: RolloutState, now: float, reason: str) -> RolloutState:
    """Return the state that leaves the traffic alone: somebody else has taken it over."""
    state = ended_analysis(state, "Inconclusive", "ended with the rollout")
    return _closed(_degraded(replace(state, actions=()), now, "overtaken", reason))


def acknowledged(state: RolloutState, action: Action, now: float) -> RolloutState:
    """Return the state after an action was done. One that nobody waits for any more changes nothing."""
    if not state.actions or state.actions[0].id != action.id:
        return state
    state = replace(state, actions=state.actions[1:])
    if isinstance(action, SetWeights) and action.stable == state.canary and not state.final:
        state = _healthy(state, now)
    return _closed(state)


def failed(state: RolloutState, action: Action, now: float, error: str, *, permanent: bool) -> RolloutState:
    """Return the state after an action could not be done.

    Args:
        state: before it.
        action: what was tried.
        now: Unix time.
        error: why not.
        permanent: trying again cannot help.
    """
    if not state.actions or state.actions[0].id != action.id:
        return state
    attempts = action.attempts + 1
    hopeless = permanent or attempts >= FORWARD_ATTEMPTS[type(action)]
    if hopeless and not state.final:
        what = {Load: "cannot be loaded", SetWeights: "cannot be given traffic", Unload: "cannot be unloaded"}
        return gone_back(state, now, "failed", f"v{state.canary} {what[type(action)]}: {error}")
    if isinstance(action, SetWeights) and state.final and permanent:
        reason = f"traffic could not be returned to v{state.stable}: {error}"
        return _closed(decided(state, now, "gave up", reason, actions=(), message=f"{state.message}; {reason}"))
    if isinstance(action, Unload) and hopeless:
        reason = f"v{action.number} stays loaded without traffic: {error}"
        return _closed(decided(state, now, "gave up", reason, actions=state.actions[1:]))
    later = now + min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(action.attempts, 10))
    again = replace(action, attempts=attempts, not_before=later)
    return replace(state, actions=(again, *state.actions[1:]))


def with_points(state: RolloutState, values: Mapping[str, float]) -> RolloutState:
    """Return the state with metric points noted, all under the next number."""
    points = tuple((name, value, state.points) for name, value in values.items())
    return _noted(replace(state, points=state.points + 1), Points(state.id, points, state.updated))


def unwritten(state: RolloutState, note: Note, now: float, error: str) -> RolloutState:
    """Return the state without a note that the tracking store will never take; that is a decision on record too."""
    state = replace(state, notes=without(state.notes, note))
    reason = f"{type(note).__name__} was refused by the tracking store: {error}"
    return decided(state, now, "untracked", reason, message=state.message)


def unheard(state: RolloutState, note: CallHook, now: float, error: str, attempts: int) -> RolloutState:
    """Return the state without a call of a hook that failed for good; that is a decision on record too."""
    state = replace(state, notes=without(state.notes, note))
    reason = f"a hook was not told of '{note.body['event']}', tried {attempts} times: {error}"
    return decided(state, now, "hook failed", reason, message=state.message)


def _healthy(state: RolloutState, now: float) -> RolloutState:
    reason = f"v{state.canary} has all traffic"
    state = decided(state, now, "healthy", reason, phase="Healthy", paused_for="", weight=100)
    notes: list[Note] = [
        SetAlias("champion", state.canary),
        DropAlias("challenger", state.canary),
        TagVersion(state.canary, {TAG: "Healthy", REASON_TAG: reason}),
    ]
    if state.kind == "undo":
        notes.append(TagVersion(state.stable, {TAG: "Undone", REASON_TAG: f"traffic returned to v{state.canary}"}))
    return _noted(with_points(state, {"weight": 100.0}), *notes)


def _degraded(state: RolloutState, now: float, what: str, reason: str) -> RolloutState:
    state = decided(state, now, what, reason, phase="Degraded", paused_for="", weight=0)
    state = with_points(state, {"weight": 0.0})
    tags = {TAG: "Degraded", REASON_TAG: reason}
    return _noted(state, DropAlias("challenger", state.canary), TagVersion(state.canary, tags))


def _closed(state: RolloutState) -> RolloutState:
    """Return the state with its run closed, where everything is done."""
    if not state.settled:
        return state
    by_hand = any(decision.what == "abort" for decision in state.decisions)
    status: Literal["FINISHED", "FAILED", "KILLED"] = (
        "FINISHED" if state.phase == "Healthy" else "KILLED" if by_hand else "FAILED"
    )
    return _noted(state, FinishRun(state.id, status, {"rayline.phase": state.phase, REASON_TAG: state.message}))


def _queued(state: RolloutState, *actions: Action) -> RolloutState:
    numbered = tuple(replace(action, id=state.next_action + place) for place, action in enumerate(actions))
    return replace(state, actions=(*state.actions, *numbered), next_action=state.next_action + len(actions))


def _noted(state: RolloutState, *notes: Note) -> RolloutState:
    outbox = state.notes
    for note in notes:
        outbox = added(outbox, note)
    return replace(state, notes=outbox)


def _account(state: RolloutState) -> str:
    facts = {
        "rollout": state.id,
        "kind": state.kind,
        "service": state.service,
        "stable": state.stable,
        "canary": state.canary,
        "phase": state.phase,
        "plan": msgspec.to_builtins(state.plan),
        "decisions": msgspec.to_builtins(state.decisions),
        "analyses": msgspec.to_builtins(state.analyses),
    }
    return json.dumps(facts, indent=2)
