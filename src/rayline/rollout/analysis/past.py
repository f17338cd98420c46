"""What earlier rollouts of a service say about the next one. A history has the latest rollout first. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rayline.errors import RolloutRefused, suggestion
from rayline.rollout.plans.plan import Plan
from rayline.rollout.state import RolloutState
from rayline.serving.traffic.plan import LiveVersion


def returning(history: Sequence[RolloutState], service: str, stable: int, to: int | None = None) -> LiveVersion:
    """Return the version that ``undo`` goes back to.

    Args:
        history: rollouts of the service, the latest first.
        service: its name.
        stable: the version number that has the traffic now.
        to: a version that was stable once; None is the one before ``stable``.

    Raises:
        RolloutRefused: no rollout brought ``stable`` there, or ``to`` never was stable.
    """
    if to is not None:
        known = {version.number: version for version in earlier(history, stable)}
        if to == stable:
            raise RolloutRefused(f"v{to} of '{service}' is the stable version already.")
        if to not in known:
            raise RolloutRefused(
                f"v{to} of '{service}' was never stable here. {suggestion(str(to), map(str, known))} "
                f"`rayline rollout start {service} --version {to}` goes through the steps."
            )
        return known[to]
    for state in history:
        if state.phase == "Healthy" and state.canary == stable:
            return state.stable_version
    raise RolloutRefused(
        f"'{service}' has no version to return to: no rollout brought v{stable} to all traffic. "
        f"`rayline deploy {service}@N` gives another version all traffic."
    )


def earlier(history: Sequence[RolloutState], stable: int) -> tuple[LiveVersion, ...]:
    """Return the versions that were stable before, each once, the latest first, but for the one that is."""
    found: dict[int, LiveVersion] = {}
    for state in history:
        versions = [state.stable_version, *([state.canary_version] if state.phase == "Healthy" else [])]
        for version in reversed(versions):
            if version.number != stable:
                found.setdefault(version.number, version)
    return tuple(found.values())


def shortened(plan: Plan, history: Sequence[RolloutState], canary: int, stable: int) -> tuple[Plan, str]:
    """Return the plan that a start really takes: going back to a recent version skips the steps.

    As Argo's ``rollbackWindow``: the version is older than the stable one, was stable itself among the last
    ``plan.rollback_window``, and nobody has taken it back since.

    Returns:
        The plan, and in words why its steps are skipped; empty where they are not.
    """
    recent = [version.number for version in earlier(history, stable)][: plan.rollback_window]
    back = plan.moves and canary < stable and canary in recent
    if not back or len(plan.steps) == 1 or taken_back(history, canary):
        return plan, ""
    return Plan.at_once(), f"v{canary} was stable {_ago(recent.index(canary))} before v{stable}: the steps are skipped"


def taken_back(history: Sequence[RolloutState], version: int) -> str:
    """Return why a version was taken back and must not be shipped again unasked; empty where it was not.

    The latest rollout that says anything about the version counts: aborted, failed or undone, it was taken back.
    """
    for state in history:
        if version == state.canary and state.phase in ("Healthy", "Degraded"):
            return state.message if state.phase == "Degraded" else ""
        if version == state.stable and state.phase == "Healthy" and state.kind == "undo":
            return state.message
    return ""


def desired(history: Sequence[RolloutState], live: int) -> int:
    """Return the version that the service is to have, once nobody moves it: after an abort the stable one.

    Args:
        history: rollouts of the service.
        live: the stable version in force, where there was no rollout.
    """
    return history[0].desired if history else live


def retried(state: RolloutState) -> tuple[Plan, LiveVersion]:
    """Return the plan and the canary of a rollout that is to begin anew.

    Raises:
        RolloutRefused: it was not taken back.
    """
    if state.phase != "Degraded":
        verb = "promote, abort or status" if not state.final else "start"
        raise RolloutRefused(
            f"cannot retry: the rollout of '{state.service}' to v{state.canary} was not taken back ({state.place}). "
            f"Use `rayline rollout {verb} {state.service}`."
        )
    return state.plan, state.canary_version


def _ago(position: int) -> str:
    return "just" if position == 0 else f"{position + 1} versions"
