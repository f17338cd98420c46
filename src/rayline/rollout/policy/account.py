"""The next state after a decision: what is recorded, queued and noted with it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from rayline.rollout.analysis.limits import Verdict
from rayline.rollout.notes import Decisions, Note, Points, added
from rayline.rollout.state import Action, AnalysisRun, Decision, RolloutState, SetMirror, SetRoutes, SetWeights
from rayline.serving.traffic.plan import Mirror


def decided(state: RolloutState, now: float, what: str, reason: str, **changes: Any) -> RolloutState:
    """Return the state after one decision: recorded, and noted for the tracking store.

    The message of a rollout that is final stays: it says why it ended as it did.
    """
    message = state.message if state.final else reason
    after = replace(state, **{"message": message, "updated": now, **changes})
    after = replace(after, decisions=(*after.decisions, Decision(now, what, after.weight, reason)))
    return noted(after, Decisions(after.id, _account(after)))


def weighed(state: RolloutState) -> RolloutState:
    """Return the state with the wish that the traffic be as last decided."""
    weights = {state.stable: 100 - state.weight, state.canary: state.weight}
    return queued(state, SetWeights(0, state.stable, weights))


def mirrored(state: RolloutState) -> RolloutState:
    """Return the state with the wish that requests be copied as last decided."""
    return queued(state, SetMirror(0, Mirror(state.canary, state.mirror) if state.mirror else None))


def routed(state: RolloutState) -> RolloutState:
    """Return the state with the wish that requests be routed by header as last decided."""
    return queued(state, SetRoutes(0, state.routes))


def ended_analysis(state: RolloutState, verdict: Verdict, reason: str) -> RolloutState:
    """Return the state without the running analysis of its step; what it found is kept, less its baseline."""
    if state.analysis is None:
        return state
    return replace(state, analysis=None, analyses=(*state.analyses, _closed(state.analysis, verdict, reason)))


def ended_background(state: RolloutState, verdict: Verdict, reason: str) -> RolloutState:
    """Return the state without the analysis beside its steps; what it found is kept, less its baseline."""
    if state.background is None:
        return state
    return replace(state, background=None, analyses=(*state.analyses, _closed(state.background, verdict, reason)))


def _closed(run: AnalysisRun, verdict: Verdict, reason: str) -> AnalysisRun:
    return replace(run, verdict=verdict, reason=reason, baseline=None)


def with_points(state: RolloutState, values: Mapping[str, float]) -> RolloutState:
    """Return the state with metric points noted, all under the next number."""
    points = tuple((name, value, state.points) for name, value in values.items())
    return noted(replace(state, points=state.points + 1), Points(state.id, points, state.updated))


def queued(state: RolloutState, *actions: Action) -> RolloutState:
    """Return the state with more actions to do, in order."""
    numbered = tuple(replace(action, id=state.next_action + place) for place, action in enumerate(actions))
    return replace(state, actions=(*state.actions, *numbered), next_action=state.next_action + len(actions))


def noted(state: RolloutState, *notes: Note) -> RolloutState:
    """Return the state with more notes for the tracking store."""
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
        "desired": state.desired,
        "plan": msgspec.to_builtins(state.plan),
        "decisions": msgspec.to_builtins(state.decisions),
        "analyses": msgspec.to_builtins(state.analyses),
    }
    return json.dumps(facts, indent=2)
