"""Decisions of the pure policy: strategies, breaches, deadlines, clocks, outside measures, and what the past says."""

from __future__ import annotations

from typing import Any

import pytest

from rayline.errors import RolloutRefused
from rayline.rollout.plans.plan import Plan
from rayline.rollout.policy import verbs
from rayline.rollout.policy.moves import acknowledged, begin
from rayline.rollout.policy.policy import Seen, decide, tended, wants_external
from rayline.rollout.policy.timing import expires, left
from rayline.rollout.state import RolloutState, SetMirror, SetRoutes
from rayline.serving.records.observation import ArmStats, Observation, ShadowStats, SliceStats
from rayline.serving.traffic.plan import HeaderRoute, Mirror
from rollout_doubles import arm, bad, good
from rollout_simulation import section, version

LOOK = {"interval": 5, "count": 2, "metrics": [{"measure": "accuracy", "max_decrease": 0.1}]}


class Run:
    """One rollout from v1 to v2, whose actions all work."""

    def __init__(self, stable: int = 1, canary: int = 2, **rollout: Any) -> None:
        self.now = 1000.0
        self.done: list[Any] = []
        self.counts: dict[int, ArmStats] = {1: ArmStats(), 2: ArmStats()}
        self.state = begin(
            id="x",
            kind="rollout",
            plan=Plan.from_config(section(**rollout)),
            service="bikes",
            stable=version(stable),
            canary=version(canary),
            now=self.now,
            experiment="x",
            tracking_uri=None,
        )
        self.settle()

    def settle(self, **seen: Any) -> RolloutState:
        """Do and decide all that needs no time."""
        while True:
            before = self.state
            while self.state.actions:
                self.done.append(self.state.actions[0])
                self.state = acknowledged(self.state, self.state.actions[0], self.now)
            observation = Observation(self.now, 1, {"r": dict(self.counts)})
            self.state = decide(self.state, Seen(observation=observation, **seen), self.now)
            if self.state is before:
                return self.state

    def live(self, seconds: float, traffic: dict[int, ArmStats] | None = None, rounds: int = 1, **seen: Any) -> Any:
        """Let time go by with traffic."""
        for _ in range(rounds):
            self.now += seconds
            for number, more in (traffic or {}).items():
                self.counts[number] = self.counts[number].plus(more)
            self.settle(**seen)
        return self.state

    def ask(self, verb: Any, **details: Any) -> RolloutState:
        self.state = verb(self.state, self.now, **details)
        return self.settle()


FINE, WORSE = {1: good(300), 2: good(300)}, {1: good(300), 2: bad(300)}


def test_a_breach_may_freeze_or_step_down_instead() -> None:
    frozen = Run(steps=[{"set_weight": 20}, {"set_weight": 50}, {"analysis": {**LOOK, "on_breach": "freeze"}}])
    state = frozen.live(5, WORSE)
    assert (state.phase, state.paused_for, state.weight) == ("Paused", "breach", 50)
    assert "frozen at 50 %: accuracy of canary v2 0.1 < stable v1 1 - 0.1 (n = 300 and 300)" in state.message
    assert frozen.ask(verbs.resume).phase == "Progressing"
    assert frozen.live(5, FINE, rounds=2).phase == "Healthy", "measured anew"

    lower = Run(steps=[{"set_weight": 20}, {"set_weight": 50}, {"analysis": {**LOOK, "on_breach": "step_down"}}])
    state = lower.live(5, WORSE)
    assert (state.phase, state.weight) == ("Paused", 20)
    assert lower.done[-1].weights == {1: 80, 2: 20}
    assert lower.ask(verbs.resume).weight == 50, "a person goes up again"


def test_the_background_watches_from_its_step_on_and_during_pauses() -> None:
    beside = {"from_step": 3, **LOOK}
    run = Run(steps=[{"set_weight": 10}, {"pause": 20}, {"set_weight": 20}, {"pause": {}}], background_analysis=beside)
    assert run.live(10, WORSE).phase == "Paused"
    assert run.live(10, FINE).weight == 20
    state = run.live(5, WORSE)
    assert state.phase == "Degraded"
    assert state.message.startswith("in the background: accuracy of canary v2")


def test_the_alias_waits_for_the_bake_and_the_bake_watches() -> None:
    watch = {"interval": 5, "metrics": [{"measure": "error_rate", "max": 0.1}]}
    for errors, phase in ((0, "Healthy"), (200, "Degraded")):
        run = Run(steps=[{"set_weight": 100}, {"bake": {"duration": 30, "analysis": watch}}])
        assert run.live(5, {2: arm(300)}).phase == "Progressing"
        assert left(run.state, run.now) == 25.0
        state = run.live(25, {2: arm(300, errors=errors)})
        assert (state.phase, state.desired) == (phase, 2 if phase == "Healthy" else 1)
        assert [type(action).__name__ for action in run.done[-2:]] == ["SetWeights", "Unload"]


def test_shadow_compares_and_moves_nothing() -> None:
    run = Run(
        strategy="shadow", analysis={"interval": 5, "count": 2, "metrics": [{"measure": "agreement", "min": 0.9}]}
    )
    assert run.done[-1] == SetMirror(2, Mirror(2, 100))
    state = run.live(5, {2: ArmStats(shadow=ShadowStats(rows=400, agreed=396))}, rounds=2)
    assert (state.phase, state.settled, state.desired) == ("Concluded", True, 1)
    assert "agreement of canary v2 0.99 >= 0.9 (n = 800)" in state.message
    assert [type(each).__name__ for each in run.done] == ["Load", "SetMirror", "SetMirror", "SetMirror", "Unload"]
    with pytest.raises(RolloutRefused, match="the shadow of 'bikes' with v2 is Concluded"):
        verbs.promote(state, run.now)


def test_blue_green_has_a_preview_address_and_returns_at_once() -> None:
    run = Run(strategy="blue_green")
    assert run.done[-1] == SetRoutes(2, (HeaderRoute("x-rayline-preview", "true", 2),))
    assert "preview v2 with header 'x-rayline-preview: true'" in run.state.message
    assert run.ask(verbs.promote).weight == 100
    state = run.ask(verbs.abort, reason="no")
    assert (state.phase, state.desired, run.done[-2]) == ("Degraded", 1, SetRoutes(run.done[-2].id, ()))


@pytest.mark.parametrize(("rate", "phase"), [(0.95, "Healthy"), (0.6, "Concluded")])
def test_an_experiment_answers_its_question(rate: float, phase: str) -> None:
    asked = {"measure": "accuracy", "winner": "promote", "interval": 5, "minimum_samples": 100}
    run = Run(strategy="experiment", experiment=asked)
    arms = {number: arm(2000, feedback=2000, correct=int(2000 * each)) for number, each in ((1, 0.8), (2, rate))}
    state = run.live(5, arms)
    assert state.phase == phase
    assert (
        f"v{state.desired} is better: accuracy of canary v2 {rate}, of stable v1 0.8; gain" in state.analyses[-1].reason
    )
    assert "at 0.95 confidence (n = 2000 and 2000)" in state.analyses[-1].reason


def test_a_deadline_fires_whatever_is_waited_for() -> None:
    plan = Plan.from_config(section(progress_deadline="1m"))
    state = begin(
        id="x",
        kind="rollout",
        plan=plan,
        service="bikes",
        stable=version(1),
        canary=version(2),
        now=1000.0,
        experiment="x",
        tracking_uri=None,
    )
    assert expires(state) == 1060.0
    assert tended(state, 1060.0) is state
    late = tended(state, 1061.0)
    assert (late.phase, late.message) == (
        "Degraded",
        "no progress for 60 s (progress_deadline): Load is not acknowledged",
    )


def test_a_clock_that_is_set_back_prolongs_no_wait() -> None:
    run = Run(steps=[{"set_weight": 10}, {"pause": 30}])
    run.now -= 86_400
    run.settle()
    assert run.live(31).phase == "Healthy"


def test_outside_measures_are_wanted_for_both_arms_and_judged() -> None:
    query = "rate(x{version='{version}'}[1m])"
    metrics = [{"measure": "prometheus", "query": query, "max_ratio": 2.0}]
    run = Run(steps=[{"set_weight": 10}, {"analysis": {"interval": 5, "count": 2, "metrics": metrics}}])
    assert wants_external(run.state, run.now) == ()
    wanted = wants_external(run.state, run.now + 5)
    assert [each.text for each in wanted] == ["rate(x{version='2'}[1m])", "rate(x{version='1'}[1m])"]
    external: dict[str, float | str] = {each.key: 1.5 for each in wanted}
    assert run.live(5, external=external, rounds=2).phase == "Healthy"

    again = Run(steps=[{"set_weight": 10}, {"analysis": {"interval": 5, "metrics": metrics}}])
    broken: dict[str, float | str] = dict.fromkeys(external, "no such host")
    state = again.live(5, external=broken, rounds=5)
    assert (state.phase, state.paused_for) == ("Paused", "verdict")
    assert "could not be measured: no such host" in state.message


def test_a_dry_run_is_told_and_decides_nothing() -> None:
    metrics = [{"measure": "error_rate", "max": 0.5}, {"measure": "accuracy", "max_decrease": 0.1, "dry_run": True}]
    run = Run(steps=[{"set_weight": 10}, {"analysis": {"interval": 5, "count": 2, "metrics": metrics}}])
    state = run.live(5, WORSE, rounds=2)
    assert state.phase == "Healthy"
    assert "(dry run: Failed: accuracy of canary v2 0.1 < stable v1 1 - 0.1" in state.analyses[0].reason


def test_a_slice_that_is_worse_is_found_and_named() -> None:
    metrics = [{"measure": "accuracy", "max_decrease": 0.1, "by_slice": True}]
    run = Run(steps=[{"set_weight": 10}, {"analysis": {"interval": 5, "count": 2, "metrics": metrics}}])

    def parts(night: int) -> ArmStats:
        slices = {"day": SliceStats(900, 900, 810), "night": SliceStats(100, 100, night), "few": SliceStats(3, 3, 0)}
        return ArmStats(requests=1003, feedback=1003, correct=810 + night, slices=slices)

    state = run.live(5, {1: parts(90), 2: parts(30)})
    assert state.phase == "Degraded"
    assert state.message == (
        "accuracy of canary v2 in slice night 0.3 < stable v1 0.9 - 0.1 (n = 100 and 100); "
        "1 of 3 slices have too few samples"
    )


def test_no_slice_with_enough_samples_is_no_success() -> None:
    metrics = [{"measure": "accuracy", "max_decrease": 0.1, "by_slice": True}]
    run = Run(steps=[{"set_weight": 10}, {"analysis": {"interval": 5, "count": 1, "metrics": metrics}}])
    assert run.live(5, FINE, rounds=3).weight == 10


def test_proven_needs_more_than_an_estimate() -> None:
    metrics = [{"measure": "accuracy", "max_decrease": 0.1, "proven": True}]
    run = Run(steps=[{"set_weight": 10}, {"analysis": {"interval": 5, "count": 1, "metrics": metrics}}])
    few = {number: arm(60, feedback=60, correct=54) for number in (1, 2)}
    run.live(5, few)
    assert run.state.weight == 10
    assert run.state.analysis is not None
    assert run.state.analysis.tallies[0].last is not None
    assert run.state.analysis.tallies[0].last.reason.endswith("which is not proven yet")
    assert run.live(5, {number: arm(6000, feedback=6000, correct=5400) for number in (1, 2)}).phase == "Healthy"


def ended(stable: int, canary: int, phase: str, kind: str = "rollout") -> RolloutState:
    run = Run(stable, canary, strategy="all_at_once")
    if phase == "Degraded":
        fresh = begin(
            id="y",
            kind="rollout",
            plan=Plan.at_once(),
            service="bikes",
            stable=version(stable),
            canary=version(canary),
            now=0.0,
            experiment="x",
            tracking_uri=None,
        )
        return verbs.abort(fresh, 1.0, reason="worse")
    from msgspec.structs import replace

    return replace(run.state, kind=kind)


def test_going_back_to_a_recent_version_skips_the_steps() -> None:
    plan = Plan.from_config(section())
    history = [ended(2, 3, "Healthy"), ended(1, 2, "Healthy")]
    short, why = verbs.shortened(plan, history, 2, 3)
    assert (short, why) == (Plan.at_once(), "v2 was stable just before v3: the steps are skipped")
    assert verbs.shortened(plan, history, 4, 3) == (plan, "")
    assert verbs.shortened(Plan.from_config(section(rollback_window=1)), history, 1, 3)[1] == ""
    undone = [ended(3, 2, "Healthy", "undo"), *history]
    assert verbs.shortened(plan, undone, 3, 2) == (plan, ""), "what was undone comes back by its steps alone"


def test_undo_goes_to_any_version_that_was_stable() -> None:
    history = [ended(2, 3, "Healthy"), ended(1, 2, "Healthy")]
    assert verbs.returning(history, "bikes", 3).number == 2
    assert verbs.returning(history, "bikes", 3, to=1).number == 1
    with pytest.raises(RolloutRefused, match="v9 of 'bikes' was never stable here"):
        verbs.returning(history, "bikes", 3, to=9)
    with pytest.raises(RolloutRefused, match="is the stable version already"):
        verbs.returning(history, "bikes", 3, to=3)


def test_after_an_abort_the_stable_version_is_desired() -> None:
    history = [ended(1, 2, "Degraded")]
    assert verbs.desired(history, 1) == 1
    assert verbs.taken_back(history, 2) == "worse"
    assert verbs.taken_back([ended(1, 2, "Healthy"), *history], 2) == ""
    assert verbs.taken_back([ended(2, 1, "Healthy", "undo"), ended(1, 2, "Healthy")], 2)
    plan, canary = verbs.retried(history[0])
    assert (plan, canary.number) == (Plan.at_once(), 2)
    with pytest.raises(RolloutRefused, match="was not taken back"):
        verbs.retried(ended(1, 2, "Healthy"))
