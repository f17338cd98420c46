"""The moves of a rollout: begin, hear of an action, go back, end. Each gives the next state. Pure."""

from __future__ import annotations

import dataclasses
from typing import Literal

from msgspec.structs import replace

from rayline.config import HookConfig
from rayline.rollout.notes import CallHook, DropAlias, FinishRun, Note, OpenRun, SetAlias, TagVersion, without
from rayline.rollout.plans.plan import MirrorTraffic, Plan, RouteHeader, SetWeight
from rayline.rollout.policy.account import (
    decided,
    ended_analysis,
    ended_background,
    noted,
    queued,
    weighed,
    with_points,
)
from rayline.rollout.state import (
    Action,
    Load,
    Place,
    RolloutState,
    SetMirror,
    SetRoutes,
    SetWeights,
    Unload,
)
from rayline.serving.traffic.plan import LiveVersion

TAG = "rayline.rollout"
REASON_TAG = "rayline.rollout.reason"

FORWARD_ATTEMPTS = {Load: 3, SetWeights: 5, SetMirror: 5, SetRoutes: 5, Place: 3, Unload: 5}
TIDYING_ATTEMPTS = 30  # once all is decided there is no hurry: about two minutes, within which a service comes back
UNDOABLE = {
    Load: "cannot be loaded",
    SetWeights: "cannot be given traffic",
    SetMirror: "cannot be given copies of requests",
    SetRoutes: "cannot be given requests by header",
    Place: "cannot be placed",
    Unload: "cannot be unloaded",
}
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
    if plan.placement is not None:
        canary = dataclasses.replace(canary, placement=plan.placement)
    steps = "at once" if plan.strategy == "all_at_once" else f"in {len(plan.steps)} steps"
    wish = f"is to take over from v{stable.number}" if plan.moves else f"is to be tried beside v{stable.number}"
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
        progressed=now,
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
    state = queued(noted(state, *notes), Load(0, canary))
    reason = f"v{canary.number} {wish} {steps}: loading it"
    return decided(state, now, "start", f"{reason}; {note}" if note else reason)


def gone_back(state: RolloutState, now: float, what: str, reason: str) -> RolloutState:
    """Return the state that gives the stable version all traffic, whatever was about to happen."""
    state = replace(_stopped(state, "ended with the rollout"), actions=())
    state = queued(state, SetWeights(0, state.stable, {state.stable: 100}), *_cleaning(state), Unload(0, state.canary))
    return _degraded(state, now, what, reason)


def concluded(state: RolloutState, now: float, reason: str) -> RolloutState:
    """Return the state that ends with the stable version in charge, as the plan said or its question was answered."""
    state = replace(_stopped(state, "ended with the rollout"), actions=())
    if any(isinstance(step, SetWeight) for step in state.plan.steps):
        state = queued(state, SetWeights(0, state.stable, {state.stable: 100}))
    state = queued(state, *_cleaning(state), Unload(0, state.canary))
    ended = {"phase": "Concluded", "paused_for": "", "weight": 0, "mirror": 0, "routes": ()}
    state = with_points(decided(state, now, "concluded", reason, **ended), {"weight": 0.0})
    tags = {TAG: "Concluded", REASON_TAG: reason}
    return noted(state, DropAlias("challenger", state.canary), TagVersion(state.canary, tags))


def taken_over(state: RolloutState, now: float) -> RolloutState:
    """Return the state past its last step: the canary is to be the stable version, and the old one to be unloaded."""
    state = queued(state, SetWeights(0, state.canary, {state.canary: 100}), *_cleaning(state))
    if state.canary_version.placement != state.stable_version.placement:
        state = queued(state, Place(0, state.canary, state.stable_version.placement))
    state = queued(state, Unload(0, state.stable))
    reason = f"v{state.canary} takes over from v{state.stable}"
    return decided(state, now, "complete", reason, mirror=0, routes=())


def breached(
    state: RolloutState, now: float, reason: str, on_breach: Literal["rollback", "freeze", "step_down"]
) -> RolloutState:
    """Return the state after an analysis has failed: back to the stable version, or held for a person."""
    if on_breach == "rollback":
        return gone_back(state, now, "failed", reason)
    ways = "`promote` goes on all the same, `resume` measures again, `abort` goes back"
    waits = {"phase": "Paused", "paused_for": "breach"}
    if on_breach == "freeze" or state.weight == 0:
        said = f"frozen at {state.weight} %: {reason}. {ways}"
        return decided(state, now, "freeze", said, **waits)
    state = _stopped(state, "ended with the step")
    step, weight = _step_below(state)
    said = f"down from {state.weight} % to {weight} %: {reason}. `resume` goes on from there, `abort` goes back"
    after = decided(state, now, "step_down", said, **waits, step=step, step_done=True, step_began=now, weight=weight)
    return weighed(with_points(after, {"weight": float(weight)}))


def overtaken(state: RolloutState, now: float, reason: str) -> RolloutState:
    """Return the state that leaves the traffic alone: somebody else has taken it over."""
    state = replace(_stopped(state, "ended with the rollout"), actions=())
    return _closed(_degraded(state, now, "overtaken", reason))


def acknowledged(state: RolloutState, action: Action, now: float) -> RolloutState:
    """Return the state after an action was done. One that nobody waits for any more changes nothing."""
    if not state.actions or state.actions[0].id != action.id:
        return state
    state = replace(state, actions=state.actions[1:], progressed=now)
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
    most = TIDYING_ATTEMPTS if state.final else FORWARD_ATTEMPTS[type(action)]
    hopeless = permanent or attempts >= most
    if hopeless and not state.final:
        return gone_back(state, now, "failed", f"v{state.canary} {UNDOABLE[type(action)]}: {error}")
    if isinstance(action, SetWeights) and state.final and permanent:
        reason = f"traffic could not be returned to v{state.stable}: {error}"
        return _closed(decided(state, now, "gave up", reason, actions=(), message=f"{state.message}; {reason}"))
    if not isinstance(action, SetWeights) and hopeless:
        reason = f"{_left(state, action)}: {error}"
        return _closed(decided(state, now, "gave up", reason, actions=state.actions[1:]))
    later = now + min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(action.attempts, 10))
    again = replace(action, attempts=attempts, not_before=later)
    return replace(state, actions=(again, *state.actions[1:]))


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
    state = decided(state, now, "healthy", reason, phase="Healthy", paused_for="", weight=100, mirror=0, routes=())
    notes: list[Note] = [
        SetAlias("champion", state.canary),
        DropAlias("challenger", state.canary),
        TagVersion(state.canary, {TAG: "Healthy", REASON_TAG: reason}),
    ]
    if state.kind == "undo":
        notes.append(TagVersion(state.stable, {TAG: "Undone", REASON_TAG: f"traffic returned to v{state.canary}"}))
    return noted(with_points(state, {"weight": 100.0}), *notes)


def _degraded(state: RolloutState, now: float, what: str, reason: str) -> RolloutState:
    state = decided(state, now, what, reason, phase="Degraded", paused_for="", weight=0, mirror=0, routes=())
    state = with_points(state, {"weight": 0.0})
    tags = {TAG: "Degraded", REASON_TAG: reason}
    return noted(state, DropAlias("challenger", state.canary), TagVersion(state.canary, tags))


def _closed(state: RolloutState) -> RolloutState:
    """Return the state with its run closed, where everything is done."""
    if not state.settled:
        return state
    by_hand = any(decision.what == "abort" for decision in state.decisions)
    status: Literal["FINISHED", "FAILED", "KILLED"] = (
        "FINISHED" if state.phase in ("Healthy", "Concluded") else "KILLED" if by_hand else "FAILED"
    )
    return noted(state, FinishRun(state.id, status, {"rayline.phase": state.phase, REASON_TAG: state.message}))


def _cleaning(state: RolloutState) -> tuple[Action, ...]:
    """Return what ends the routes and copies that the plan may have begun; doing it for nothing does no harm."""
    routes = any(isinstance(step, RouteHeader) for step in state.plan.steps)
    copies = any(isinstance(step, MirrorTraffic) for step in state.plan.steps)
    return (*((SetRoutes(0, ()),) if routes else ()), *((SetMirror(0, None),) if copies else ()))


def _stopped(state: RolloutState, reason: str) -> RolloutState:
    state = ended_analysis(state, "Inconclusive", reason)
    return ended_background(state, "Inconclusive", reason)


def _step_below(state: RolloutState) -> tuple[int, int]:
    """Return the step that gave the weight before this one, and that weight; -1 and 0 where there was none."""
    weights = [
        (place, step.weight)
        for place, step in enumerate(state.plan.steps[: max(0, state.step) + 1])
        if isinstance(step, SetWeight) and step.weight < state.weight
    ]
    return weights[-1] if weights else (-1, 0)


def _left(state: RolloutState, action: Action) -> str:
    match action:
        case SetMirror():
            return "copies of requests could not be ended"
        case SetRoutes():
            return "routes by header could not be ended"
        case Place(number=number, placement=placement):
            return f"v{number} could not be placed {placement}, and stays where it is"
        case Unload(number=number):
            return f"v{number} stays loaded without traffic"
    return f"v{state.canary} is left as it is"
