"""What a controller that has just started makes of the traffic that it finds, before it does anything. Pure."""

from __future__ import annotations

from rayline.rollout.policy.moves import overtaken
from rayline.rollout.state import RolloutState, SetWeights
from rayline.serving.traffic.plan import TrafficPlan


def read_back(state: RolloutState, plan: TrafficPlan, now: float) -> RolloutState:
    """Return the state to go on from; the very same one where the traffic is what this rollout may have left.

    Actions that are open may have been done or not: they are done again. But where a version is stable that this
    rollout never made so, somebody else has taken over while no controller ran, and nothing is done to their traffic.

    Args:
        state: what is on disk.
        plan: the traffic in force.
        now: Unix time.
    """
    if state.phase == "Healthy" or state.settled or plan.stable in _left(state):
        return state
    shares = ", ".join(f"v{number} {weight} %" for number, weight in sorted(plan.weights.items()) if weight)
    reason = f"the traffic was changed from outside while no controller ran ({shares}); this rollout leaves it alone"
    return overtaken(state, now, reason)


def _left(state: RolloutState) -> set[int]:
    """Return the versions that may be stable if nobody but this rollout moved the traffic."""
    wanted = {action.stable for action in state.actions if isinstance(action, SetWeights)}
    # A return that was cut off may find the canary stable: its last SetWeights had been done, and was not acknowledged.
    taking_over = state.phase == "Degraded" or state.step >= len(state.plan.steps)
    return wanted | {state.stable} | ({state.canary} if taking_over else set())
