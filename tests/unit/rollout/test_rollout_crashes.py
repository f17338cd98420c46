"""Every strategy, cut off before and after all that its controller does: it ends as the unbroken one.

Each run takes every fifth of these moments, ``RAYLINE_EVERY_CRASH=1`` all of them.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rayline.config import parse
from rayline.errors import ServiceError, StaleController
from rayline.rollout.engine import Engine
from rayline.rollout.plans.plan import Pause, Plan, SetWeight
from rayline.rollout.policy import verbs
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from rollout_doubles import ServiceDouble, good, live_version
from rollout_world import MemoryFiles, World

LOOK = {"interval": 1, "count": 2, "metrics": [{"measure": "error_rate", "max": 0.1, "minimum_samples": 20}]}
OUTSIDE = {"interval": 1, "count": 2, "metrics": [{"measure": "function", "function": "operator:eq", "max": 0.5}]}
ASKED = {"measure": "accuracy", "interval": 1, "minimum_samples": 10, "max_samples": 500}
SECTIONS: dict[str, dict[str, Any]] = {
    "all_at_once": {"strategy": "all_at_once", "bake": 2},
    "blue_green": {"strategy": "blue_green", "blue_green": {"auto_promotion": 1, "pre_promotion": OUTSIDE}},
    "canary": {"strategy": "canary", "analysis": LOOK, "placement": "remote"},
    "linear": {"strategy": "linear", "linear": {"step_weight": 40, "interval": 1}},
    "shadow": {"strategy": "shadow", "analysis": OUTSIDE},
    "experiment": {"strategy": "experiment", "experiment": ASKED},
    "abort": {"strategy": "canary", "steps": [{"set_header_route": {"header": "x"}}, {"set_weight": 5}, {"pause": {}}]},
}
STRIDE = 1 if os.environ.get("RAYLINE_EVERY_CRASH") else 5
FINE = {1: good(200), 2: good(100)}


class Crash(BaseException):
    """The process is gone."""


def plan_of(name: str) -> Plan:
    section = parse({"name": "x", "data": {"source": "x"}, "features": {"target": "x"}, "rollout": SECTIONS[name]})
    return Plan.from_config(section.rollout, "binary")


class Story:
    """One rollout from its start to its end, and how many effects it had; ``fuse`` is the effect that cuts it off."""

    def __init__(self, name: str, fuse: int = -1) -> None:
        self.name = name
        self.fuse = fuse
        self.effects = 0
        self.disk = MemoryFiles(before=self.burn, after=self.burn)
        self.world = World(Path("nowhere"), before=self.burn, after=self.burn, files=self.disk)

    def burn(self, what: str) -> None:
        self.effects += 1
        if self.effects == self.fuse:
            raise Crash(what)

    def told(self) -> tuple[Any, ...]:
        """Go on to the end, whatever happens on the way. Returns what is left in the world."""
        for _ in range(60):
            try:
                if self.ended():
                    break
            except Crash:
                self.crashed()
        facts = self.world.cell.read()
        plan = TrafficPlan.from_json(facts["plan"])
        state = self.world.state
        placed = {each.number: each.placement for each in plan.versions}
        left = (plan.stable, self.world.weights, placed, plan.mirror, plan.routes)
        tags = {number: each["rayline.rollout"] for number, each in facts["version_tags"].items()}
        return state.phase, state.desired, left, facts["aliases"], tags

    def ended(self) -> bool:
        if self.world.engine.state is None:
            self.world.start(2, plan_of(self.name))
        state = self.world.run(1.0, FINE)
        if self.name == "abort" and state.waiting:
            self.world.ask(verbs.abort, reason="no")
        return state.settled and not state.notes

    def crashed(self) -> None:
        self.world.restarted()

    def close(self) -> None:
        self.world.engine.close()
        for zombie in self.world.zombies:
            zombie.close()
        self.disk.gone()


@contextmanager
def story(name: str, fuse: int = -1, kind: type[Story] = Story) -> Iterator[Story]:
    """Give a story, and let go of its disk afterwards."""
    told = kind(name, fuse)
    try:
        yield told
    finally:
        told.close()


@pytest.mark.parametrize("name", SECTIONS)
def test_cut_off_at_each_effect_it_ends_as_the_unbroken_one(name: str) -> None:
    with story(name) as unbroken:
        expected, effects = unbroken.told(), unbroken.effects
    assert expected[0] == {"abort": "Degraded", "shadow": "Concluded", "experiment": "Concluded"}.get(name, "Healthy")
    assert effects > 30
    for fuse in range(1, effects + 1, STRIDE):
        with story(name, fuse) as broken:
            assert broken.told() == expected, f"cut off at effect {fuse} of {effects}"


class Undead(Story):
    """A crash is none: a successor takes over, and the one before goes on as well."""

    def crashed(self) -> None:
        self.fuse = -1
        zombie = self.world.replaced()
        for work in (zombie.tick, zombie.deliver, zombie.notify):
            try:
                work()
            except (StaleController, ServiceError):
                continue


@pytest.mark.parametrize("name", ["canary", "blue_green", "abort"])
def test_a_successor_ends_it_although_the_one_before_goes_on(name: str) -> None:
    with story(name) as unbroken:
        expected, effects = unbroken.told(), unbroken.effects
    for fuse in range(1, effects + 1, 2 * STRIDE):
        with story(name, fuse, Undead) as doubled:
            assert doubled.told() == expected, f"overtaken at effect {fuse} of {effects}"


class Held(ServiceDouble):
    """Loads until it is let go."""

    def __init__(self, *arguments: Any, held: threading.Event, begun: threading.Event, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.held, self.begun = held, begun

    def fenced(self, fence: int) -> Held:
        return Held(self._cell, fence=fence, held=self.held, begun=self.begun)

    def load(self, version: LiveVersion) -> None:
        self.begun.set()
        self.held.wait(30)
        super().load(version)


@pytest.fixture
def held() -> Iterator[tuple[World, threading.Event, threading.Event]]:
    """A world whose service takes its time to load."""
    world = World(Path("nowhere"), files=MemoryFiles())
    free, begun = threading.Event(), threading.Event()
    service = Held(world.cell, held=free, begun=begun)
    world.ports = dataclasses.replace(world.ports, service=lambda name, storage: service)
    world.restarted()
    yield world, free, begun
    free.set()
    world.engine.close()


def ticking(engine: Engine) -> threading.Thread:
    thread = threading.Thread(target=engine.tick)
    thread.start()
    return thread


def test_an_abort_goes_ahead_of_a_load_and_what_was_left_behind_changes_nothing(
    held: tuple[World, threading.Event, threading.Event],
) -> None:
    world, free, begun = held
    world.start(2, Plan("canary", (SetWeight(10), Pause(None), SetWeight(100))))
    traffic = ticking(world.engine)
    assert begun.wait(10)
    world.ask(verbs.abort, reason="at once")
    traffic.join(10)
    assert not traffic.is_alive(), "the abort waits for no load"
    world.settle()
    assert (world.state.phase, world.state.settled, world.weights, world.live) == ("Degraded", True, {1: 100}, (1,))
    free.set()
    for thread in threading.enumerate():
        if thread.name == "rollout-work":
            thread.join(10)
    assert (world.live, world.weights) == ((1,), {1: 100}), "the late load carried an old number"


def test_a_deadline_fires_while_a_load_hangs(
    held: tuple[World, threading.Event, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayline.rollout.apart.ASK_S", 0.01)
    world, _, begun = held
    world.start(2, Plan("canary", (SetWeight(10), SetWeight(100)), progress_deadline=60.0))
    traffic = ticking(world.engine)
    assert begun.wait(10)
    world.clock.now += 61
    traffic.join(10)
    assert not traffic.is_alive()
    world.settle()
    assert (world.state.phase, world.weights) == ("Degraded", {1: 100})
    assert "no progress for 60 s (progress_deadline): Load is not acknowledged" in world.state.message


def test_another_stable_version_found_after_a_restart_is_left_alone() -> None:
    world = World(Path("nowhere"), files=MemoryFiles())
    world.start(2, Plan("canary", (SetWeight(10), Pause(None), SetWeight(100))))
    with world.cell.changed() as facts:
        plan = TrafficPlan.from_json(facts["plan"]).adding(live_version(7)).weighing(7, {7: 100})
        facts["plan"] = plan.to_json()
    assert world.state.actions, "a load is open"
    world.restarted()
    world.settle()
    assert (world.state.phase, world.weights, world.calls()) == ("Degraded", {7: 100}, [])
    assert "was changed from outside while no controller ran (v7 100 %)" in world.state.message
    world.engine.close()


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_is_set_moves_no_pause(jump: float) -> None:
    world = World(Path("nowhere"), files=MemoryFiles())
    world.start(2, Plan("canary", (SetWeight(10), Pause(30.0), SetWeight(100))))
    world.settle()
    world.clock.jumped = jump
    assert world.run(29).weight == 10
    assert world.run(2).phase == "Healthy"
    world.engine.close()


def test_a_clock_that_was_set_back_while_no_controller_ran_makes_no_pause_longer() -> None:
    world = World(Path("nowhere"), files=MemoryFiles())
    world.start(2, Plan("canary", (SetWeight(10), Pause(30.0), SetWeight(100))))
    world.settle()
    world.clock.jumped = -86_400.0
    world.restarted()
    assert world.run(31).phase == "Healthy"
    world.engine.close()


def test_a_day_that_a_restart_saw_and_the_next_one_does_not_holds_no_analysis_up() -> None:
    """Found by the state machine: what was due is measured from the last write, not from the last decision."""
    world = World(Path("nowhere"), files=MemoryFiles())
    world.start(2, plan_of("canary"))
    world.settle()
    world.clock.jumped = 86_400.0
    world.restarted()
    world.run(1, FINE)
    world.clock.jumped = 0.0
    world.restarted()
    assert [world.run(1, FINE) for _ in range(12)][-1].phase == "Healthy"
    world.engine.close()
