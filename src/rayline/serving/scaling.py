"""How many replicas a service should have: Serve's policy over the load that the replicas measure themselves.

Serve asks this function, and itself applies the bounds, and the delays for which a wish must last. That alone would go
to and fro where the load lies on an edge, so that a replica is given up only where the others would then have room to
spare.
"""

from __future__ import annotations

from typing import Any

METRIC = "under_way"
SPARE = 0.8
LOOK_BACK = 30.0


def wanted(under_way: float, target: float, current: int) -> float:
    """Return how many replicas a load asks for; Serve rounds up.

    Args:
        under_way: requests under way on average, in all replicas together.
        target: requests under way that one replica should have.
        current: replicas that there are.
    """
    needed = under_way / target
    if needed > current:
        return needed
    return min(float(current), under_way / (target * SPARE))


def policy(context: Any) -> tuple[float, dict[str, Any]]:
    """Answer Serve's ``AutoscalingContext``: the wish, and no state to keep."""
    current = context.current_num_replicas
    if current == 0:
        return context.target_num_replicas, {}
    measured = (context.aggregated_metrics or {}).get(METRIC, {})
    under_way = max(sum(measured.values()), context.total_num_requests)  # Serve counts what comes by its own proxy
    return wanted(under_way, context.config.get_target_ongoing_requests(), current), {}
