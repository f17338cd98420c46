"""Which hooks a decision is told to: what changed between two states becomes notes in the outbox. Pure."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from rayline.rollout.notes import CallHook, added
from rayline.rollout.state import RolloutState

Event = Literal["step", "pause", "abort", "completion"]


def announced(before: RolloutState | None, after: RolloutState) -> RolloutState:
    """Return ``after`` with a note for each hook that what happened since ``before`` is told to."""
    if not after.hooks or before is None or before.id != after.id:
        return after
    notes = after.notes
    for event in events(before, after):
        for hook in after.hooks:
            if event in hook.on:
                notes = added(notes, CallHook(hook, _body(after, event)))
    return after if notes is after.notes else replace(after, notes=notes)


def events(before: RolloutState, after: RolloutState) -> tuple[Event, ...]:
    """Return what happened between two states of one rollout, in order."""
    found: list[Event] = []
    if after.step != before.step and after.current is not None and not after.final:
        found.append("step")
    if after.phase == "Paused" and (before.phase, before.paused_for) != (after.phase, after.paused_for):
        found.append("pause")
    if after.phase == "Degraded" != before.phase:
        found.append("abort")
    if after.final and after.phase not in ("Degraded", before.phase):
        found.append("completion")
    return tuple(found)


def _body(state: RolloutState, event: Event) -> dict[str, str | int | float]:
    return {
        "id": f"{state.id}-{len(state.decisions)}-{event}",
        "event": event,
        "rollout": state.id,
        "service": state.service,
        "kind": state.kind,
        "stable": state.stable,
        "canary": state.canary,
        "phase": state.phase,
        "step": state.step + 1,
        "weight": state.weight,
        "reason": state.message,
        "at": state.updated,
    }
