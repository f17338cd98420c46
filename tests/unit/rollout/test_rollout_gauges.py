"""A rollout's gauges: one phase at a time, the canary's share, and the verdicts that were given."""

from __future__ import annotations

from pathlib import Path

from rayline import meters
from rayline.rollout import gauges
from rayline.rollout.plans.plan import Plan
from rayline.rollout.plans.steps import Pause, SetWeight
from rayline.rollout.policy import verbs
from rollout_doubles import SERVICE
from rollout_world import World


def shown(gauge: str) -> dict[tuple[str, ...], float]:
    return {labels: value for (name, labels), value in meters.shown().items() if name == gauge}


def test_a_rollout_is_shown_as_it_goes(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.start(2, Plan("canary", (SetWeight(20), Pause(None), SetWeight(100))))
    while world.engine.tick():
        pass
    state = world.engine.state
    assert state is not None
    gauges.shown(state)
    phases = shown("rayline_rollout_phase")
    assert phases[(SERVICE, "Paused")] == 1
    assert sum(phases.values()) == 1
    assert shown("rayline_rollout_canary_percent") == {(SERVICE, "2"): 20}
    assert (shown("rayline_rollout_step"), shown("rayline_rollout_steps")) == ({(SERVICE,): 2}, {(SERVICE,): 3})
    assert set(shown("rayline_rollout_verdicts").values()) == {0}

    world.engine.ask("go", verbs.promote)
    while world.engine.tick():
        pass
    gauges.shown(world.engine.state)
    assert shown("rayline_rollout_phase")[(SERVICE, "Healthy")] == 1
    assert shown("rayline_rollout_canary_percent") == {(SERVICE, "2"): 100}
    world.start(3, Plan("canary", (SetWeight(50), Pause(None), SetWeight(100))))
    while world.engine.tick():
        pass
    gauges.shown(world.engine.state)
    assert shown("rayline_rollout_canary_percent") == {(SERVICE, "3"): 50}, "the canary before has ended"
    for gauge in meters.GAUGES:
        meters.hide(gauge, 0.0)


def test_no_rollout_shows_nothing() -> None:
    before = meters.shown()
    gauges.shown(None)
    assert meters.shown() == before
