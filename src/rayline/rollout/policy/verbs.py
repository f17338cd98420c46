"""What a person may ask of a rollout under way. Each verb gives the next state or refuses with the way out. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from rayline.errors import RolloutRefused
from rayline.rollout.analysis.past import desired, earlier, retried, returning, shortened, taken_back
from rayline.rollout.plans.plan import Pause, SetWeight
from rayline.rollout.policy.account import decided, ended_analysis
from rayline.rollout.policy.entering import fresh_analysis
from rayline.rollout.policy.moves import gone_back
from rayline.rollout.state import RolloutState

__all__ = [
    "abort",
    "answered",
    "desired",
    "earlier",
    "pause",
    "promote",
    "refuse_second",
    "resume",
    "retried",
    "returning",
    "shortened",
    "taken_back",
]


def promote(state: RolloutState, now: float, *, full: bool = False, note: str = "") -> RolloutState:
    """Return the state past a pause; with ``full``, past every step that is left. Raises ``RolloutRefused``.

    ``note`` is what the decision says besides.
    """
    besides = f"; {note}" if note else ""
    _refuse_final(state, "promote")
    going = {"phase": "Progressing", "paused_for": "", "step_done": True}
    if full:
        if not state.plan.moves:
            raise RolloutRefused(
                f"cannot promote in full: the {state.plan.strategy} of '{state.service}' to v{state.canary} moves no "
                f"traffic in the end. `rayline rollout abort {state.service}`, then start a rollout that does."
            )
        last = len(state.plan.steps) - 1
        whole = next(place for place, step in enumerate(state.plan.steps) if step == SetWeight(100))
        state = ended_analysis(state, "Inconclusive", "skipped by a person")
        step = min(last, whole - 1) if state.weight < 100 else max(last, state.step)
        reason = f"promoted in full by a person: every step left is skipped{besides}"
        return decided(state, now, "promote", reason, step=step, **going)
    if state.paused_for == "hand":
        return resume(state, now)
    if state.phase != "Paused":
        raise RolloutRefused(
            f"the rollout of '{state.service}' to v{state.canary} is not paused ({state.place}). "
            f"`rayline rollout promote {state.service} --full` skips every step that is left."
        )
    return decided(state, now, "promote", f"promoted past step {state.step + 1} by a person{besides}", **going)


def pause(state: RolloutState, now: float) -> RolloutState:
    """Return the state held where it is; an open action is still done. Raises ``RolloutRefused``."""
    _refuse_final(state, "pause")
    if state.waiting:
        raise RolloutRefused(f"the rollout of '{state.service}' to v{state.canary} is paused already: {state.message}.")
    if state.step >= len(state.plan.steps):
        raise RolloutRefused(
            f"the rollout of '{state.service}' to v{state.canary} is past its last step; "
            f"`rayline rollout undo {state.service}` takes it back."
        )
    reason = f"paused at {state.weight} % by a person; `resume` goes on"
    return decided(state, now, "pause", reason, phase="Paused", paused_for="hand")


def resume(state: RolloutState, now: float) -> RolloutState:
    """Return the state going on: after a pause by hand, or with an analysis begun anew. Raises ``RolloutRefused``."""
    _refuse_final(state, "resume")
    if state.paused_for == "hand":
        phase, paused_for = _going(state)
        run = replace(state.analysis, due=max(state.analysis.due, now)) if state.analysis else None
        return decided(state, now, "resume", "resumed by a person", phase=phase, paused_for=paused_for, analysis=run)
    if state.paused_for in ("verdict", "breach"):
        phase, paused_for = _going(state)
        run = None if state.step_done else fresh_analysis(state, now)
        what = f"the analysis at {state.weight} % begins anew" if run else f"goes on from {state.weight} %"
        reason = f"{what}, as a person asked"
        return decided(state, now, "resume", reason, phase=phase, paused_for=paused_for, analysis=run)
    way = "promote" if state.phase == "Paused" else "status"
    raise RolloutRefused(
        f"the rollout of '{state.service}' to v{state.canary} was not paused by hand ({state.place}). "
        f"Use `rayline rollout {way} {state.service}`."
    )


def _going(state: RolloutState) -> tuple[str, str]:
    """Return the phase and what ends it, as the present step has them where nothing holds it."""
    if isinstance(state.current, Pause) and not state.step_done:
        return "Paused", "promote" if state.current.seconds is None else "time"
    return "Progressing", ""


def abort(state: RolloutState, now: float, *, reason: str) -> RolloutState:
    """Return the state that takes the canary back at once, whatever was going on. Raises ``RolloutRefused``."""
    _refuse_final(state, "abort")
    return gone_back(state, now, "abort", reason)


def answered(state: RolloutState, request: str) -> RolloutState:
    """Return the state that remembers a verb by its id, so that it acts once however often it is sent."""
    return replace(state, requests=(*state.requests, request)[-32:])


def _refuse_final(state: RolloutState, verb: str) -> None:
    if state.phase == "Healthy":
        raise RolloutRefused(
            f"cannot {verb}: the rollout of '{state.service}' to v{state.canary} is Healthy, it has taken over. "
            f"`rayline rollout undo {state.service}` returns to v{state.stable}."
        )
    if state.phase == "Degraded":
        raise RolloutRefused(
            f"cannot {verb}: the rollout of '{state.service}' to v{state.canary} is Degraded, it was taken back: "
            f"{state.message}. `rayline rollout start {state.service}` begins another, `retry` the same."
        )
    if state.phase == "Concluded":
        raise RolloutRefused(
            f"cannot {verb}: the {state.plan.strategy} of '{state.service}' with v{state.canary} is Concluded: "
            f"{state.message}. `rayline rollout start {state.service}` begins a rollout."
        )


def refuse_second(state: RolloutState, verb: str) -> None:
    """Raise ``RolloutRefused`` where a rollout is under way, naming it and the way out."""
    if not state.settled:
        name = state.service
        raise RolloutRefused(
            f"cannot {verb}: a rollout of '{name}' to v{state.canary} is under way ({state.place}). Wait for it with "
            f"`rayline rollout status {name} --wait`, or end it with `rayline rollout abort {name}`."
        )
