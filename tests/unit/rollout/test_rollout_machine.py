"""Any order of verbs, traffic, failures and crashes: what may never happen does not happen.

A crash ends the engine between any two effects: before or after an action, before or after the state is written. What
comes back reads the database alone. A call may be lost, done without an answer, or done twice; a controller may go on
that was replaced; somebody may set the clock. ``RAYLINE_MACHINE_EXAMPLES`` asks for more than the usual 100 stories.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rayline.config import AnalysisConfig, MetricCondition
from rayline.errors import NotFoundError, RolloutRefused, ServiceError, StaleController, TrackingError
from rayline.rollout.controller import new_id
from rayline.rollout.effects import NAMES
from rayline.rollout.engine import Order
from rayline.rollout.plans.plan import Analyse, Pause, Plan, SetWeight
from rayline.rollout.policy import verbs
from rayline.rollout.state import RolloutState
from rayline.serving.traffic.plan import TrafficPlan
from rollout_doubles import bad, good, live_version
from rollout_world import MemoryFiles, World

LOOK = Analyse(
    AnalysisConfig(
        metrics=(
            MetricCondition(measure="error_rate", max=0.1, minimum_samples=20),
            MetricCondition(measure="accuracy", max_decrease=0.1, minimum_samples=20),
        ),
        interval=5.0,
        count=2,
        inconclusive_limit=2,
    )
)
PLANS = (
    Plan("canary", (SetWeight(10), LOOK, SetWeight(50), LOOK, SetWeight(100))),
    Plan("canary", (SetWeight(0), Pause(7.0), SetWeight(30), LOOK, Pause(None), SetWeight(100), Pause(3.0))),
    Plan.at_once(),
)


EXAMPLES = int(os.environ.get("RAYLINE_MACHINE_EXAMPLES", "100"))
STEPS = 25
FUSES = st.one_of(st.none(), st.integers(0, 12))
counted: Counter[str] = Counter()


class Crash(BaseException):
    """The process is gone."""


class Rollouts(RuleBasedStateMachine):
    """A person, the world and a controller that dies."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse = -1  # effects until the crash; never below zero
        self.trouble = ""  # what happens to the next call: lost, unanswered, doubled
        self.undead = False  # a controller that was replaced is at work
        self.disk = MemoryFiles(before=self.burn, after=self.burn)
        self.world = World(Path("nowhere"), before=self.seen, after=self.done, files=self.disk)
        self.aborted: set[str] = set()
        self.whole: set[int] = {1}  # versions that have had all the traffic as stable
        self.fed: set[str] = set()  # rollouts whose canary had traffic
        self.helped: set[str] = set()  # rollouts that a person moved forward

    def burn(self, what: str) -> None:
        if self.fuse >= 0:
            self.fuse -= 1
            if self.fuse < 0:
                raise Crash(what)

    def seen(self, what: str) -> None:
        if what.startswith("set_alias champion"):
            assert int(what.rsplit(" ", 1)[1]) in self.whole, "champion moves only after all traffic has"
        if self.trouble == "lost":
            self.trouble = ""
            counted["lost"] += 1
            raise _lost(what)
        self.burn(what)

    def done(self, what: str) -> None:
        plan = TrafficPlan.from_json(self.world.cell.read()["plan"])
        if plan.weights.get(plan.stable) == 100:
            self.whole.add(plan.stable)
        state = self.world.engine.state
        counted["effects"] += 1
        if what == "set_weights" and state is not None and state.id in self.aborted and not self.undead:
            assert plan.weights == {state.stable: 100}, "after an abort, traffic goes to stable alone"
        if self.trouble == "unanswered":
            self.trouble = ""
            counted["unanswered"] += 1
            raise _lost(what)
        self.burn(what)

    def drive(self, work: Any, fuse: int | None = None) -> None:
        """Do some work; where it is cut off, before or after its effect number ``fuse``, begin again from the disk."""
        counted["steps"] += 1
        if fuse is not None:
            self.fuse = fuse
        try:
            work()
        except Crash:
            counted["crashes"] += 1
            self.world.restarted()
        except (RolloutRefused, NotFoundError, ServiceError):
            pass

    @property
    def state(self) -> RolloutState | None:
        return self.world.engine.state

    @initialize(number=st.integers(2, 3), plan=st.sampled_from(PLANS))
    def first(self, number: int, plan: Plan) -> None:
        self.start(number, plan)

    @rule(number=st.integers(1, 4), plan=st.sampled_from(PLANS))
    def start(self, number: int, plan: Plan) -> None:
        self.drive(lambda: self.world.start(number, plan))

    @rule()
    def undo(self) -> None:
        self.drive(self.world.undo)

    @rule(verb=st.sampled_from([verbs.promote, verbs.pause, verbs.resume]), full=st.booleans())
    def ask(self, verb: Any, full: bool) -> None:
        before = self.state
        details = {"full": full} if verb is verbs.promote else {}
        if before is not None and verb is verbs.promote:
            self.helped.add(before.id)
        self.drive(lambda: self.world.ask(verb, **details))

    @rule()
    def abort(self) -> None:
        state = self.state
        self.drive(lambda: self.world.ask(verbs.abort, reason="a person said so"))
        after = self.state
        if state is not None and after is not None and after.id == state.id and not state.final and after.final:
            self.aborted.add(state.id)

    @rule(
        seconds=st.sampled_from([0.1, 5.0, 40.0]),
        kind=st.sampled_from(["good", "bad", "none", "few"]),
        rounds=st.integers(1, 4),
        fuse=FUSES,
    )
    def live(self, seconds: float, kind: str, rounds: int, fuse: int | None) -> None:
        for _ in range(rounds):
            state = self.state
            traffic = {}
            if state is not None and kind != "none":
                arm = {"good": good(30), "bad": bad(30), "few": good(2)}[kind]
                traffic = {state.stable: good(200), state.canary: arm}
                self.fed.add(state.id)
            self.drive(lambda traffic=traffic: self.world.run(seconds, traffic), fuse)

    @rule(ticks=st.integers(1, 3), fuse=FUSES)
    def tick(self, ticks: int, fuse: int | None) -> None:
        for _ in range(ticks):
            self.drive(self.world.engine.tick, fuse)

    @rule(after=st.integers(0, 6))
    def crash_soon(self, after: int) -> None:
        self.fuse = after

    @rule()
    def crash_now(self) -> None:
        self.world.restarted()

    @rule(trouble=st.sampled_from(["lost", "unanswered"]))
    def call_goes_wrong(self, trouble: str) -> None:
        self.trouble = trouble

    @rule()
    def every_call_runs_twice(self) -> None:
        with self.world.cell.changed() as world:
            world["doubled"] = not world["doubled"]

    @rule(seconds=st.sampled_from([-86_400.0, -30.0, 30.0, 86_400.0]))
    def somebody_sets_the_clock(self, seconds: float) -> None:
        self.world.clock.jumped += seconds

    @precondition(lambda self: not self.world.zombies)
    @rule()
    def replaced_without_knowing(self) -> None:
        self.world.replaced()

    @precondition(lambda self: self.world.zombies)
    @rule(what=st.sampled_from(["tick", "deliver", "abort", "promote", "start"]))
    def stale_controller_acts(self, what: str) -> None:
        """Whatever one that was replaced tries, the database stays as its successor wrote it."""
        zombie = self.world.zombies[0]
        work: dict[str, Any] = {
            "tick": zombie.tick,
            "deliver": zombie.deliver,
            "abort": lambda: zombie.ask(new_id(), lambda state, now: verbs.abort(state, now, reason="undead")),
            "promote": lambda: zombie.ask(new_id(), lambda state, now: verbs.promote(state, now, full=True)),
            "start": lambda: zombie.start(Order(new_id(), "rollout", PLANS[0], live_version(4), None, "exp")),
        }
        before = self.world.files.read()
        self.fuse, self.undead = -1, True
        try:
            work[what]()
        except StaleController:
            counted["refused"] += 1
        except (RolloutRefused, NotFoundError, ServiceError):
            pass
        finally:
            self.undead = False
        assert self.world.files.read() == before

    @precondition(lambda self: self.state is not None)
    @rule(down=st.booleans())
    def service(self, down: bool) -> None:
        self.world.set(service_down="away" if down else "")

    @rule(down=st.booleans())
    def store(self, down: bool) -> None:
        self.world.set(store_down=down)

    @invariant()
    def weights_are_whole_and_only_on_loaded_versions(self) -> None:
        plan = TrafficPlan.from_json(self.world.cell.read()["plan"])
        assert sum(plan.weights.values()) == 100
        assert all(0 <= weight <= 100 for weight in plan.weights.values())
        assert set(plan.weights) <= set(plan.numbers)
        assert plan.stable in plan.numbers

    @invariant()
    def memory_and_disk_agree(self) -> None:
        assert self.world.files.read() == self.state

    @invariant()
    def an_aborted_rollout_stays_aborted(self) -> None:
        state = self.state
        if state is not None and state.id in self.aborted:
            assert state.phase == "Degraded"
            assert state.weight == 0

    @invariant()
    def missing_data_never_promotes(self) -> None:
        state = self.state
        if state is None or state.id in self.helped or state.plan.strategy == "all_at_once":
            return
        if state.id not in self.fed:
            weights = [step.weight for step in state.plan.steps[: _first_look(state.plan)] if hasattr(step, "weight")]
            assert state.weight <= max(weights)
            assert state.phase != "Healthy"
        for run in state.analyses:
            if run.verdict == "Successful":
                assert all(tally.last is not None and tally.last.value is not None for tally in run.tallies)

    def teardown(self) -> None:
        """Once the world is well again, whatever was going on comes to rest where it said."""
        self.fuse, self.trouble = -1, ""
        self.world.set(service_down="", store_down=False, doubled=False)
        self.world.restarted()
        try:
            self.comes_to_rest()
        finally:
            for zombie in self.world.zombies:
                zombie.close()
            self.disk.gone()
            self.world.files.close()

    def comes_to_rest(self) -> None:
        if self.state is None:
            return
        for _ in range(40):
            state = self.world.run(40.0, {self.state.stable: good(200), self.state.canary: good(30)})
            if state.waiting:
                self.world.ask(verbs.promote)
            elif state.settled and not state.notes:
                break
        state = self.world.state
        assert state.settled
        assert state.notes == ()
        ruling = state.canary if state.phase == "Healthy" else state.stable
        assert self.world.weights == {ruling: 100}
        if not any(decision.what == "gave up" for decision in state.decisions):  # then it says what it left loaded
            assert self.world.live == (ruling,)
        assert self.world.cell.read()["aliases"] == {"champion": ruling}


def _lost(what: str) -> Exception:
    return ServiceError("no answer came") if what in NAMES.values() else TrackingError("no answer came")


def _first_look(plan: Plan) -> int:
    return next(place for place, step in enumerate(plan.steps) if isinstance(step, Analyse))


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="RAYLINE_MACHINE_EXAMPLES" not in os.environ,  # the usual stories are always the same
)


def test_the_stories_held_what_they_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs after the machine: without crashes, lost calls and stale controllers its word would be worth nothing."""
    with capsys.disabled():
        print(f"\nmachine: {dict(counted)}")
    assert min(counted[what] for what in ("steps", "effects", "crashes", "lost", "unanswered", "refused")) > 0
