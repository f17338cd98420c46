"""Every strategy, any order of events: the pure policy keeps its laws (see ``rollout_simulation``)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from rollout_simulation import PolicyMachine

TestPolicy = PolicyMachine.TestCase
TestPolicy.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
