"""One rollout from its start to its end, on doubles: what is decided, done and written, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayline.config import AnalysisConfig, MetricCondition
from rayline.errors import NotFoundError, RolloutRefused
from rayline.rollout.controller import new_id
from rayline.rollout.plans.plan import Analyse, Pause, Plan, SetWeight
from rayline.rollout.policy import verbs
from rayline.rollout.state import RolloutState
from rayline.rollout.storage.storage import RolloutFiles
from rayline.serving.traffic.plan import TrafficPlan
from rollout_doubles import SERVICE, bad, good, live_version, serve
from rollout_world import MemoryFiles, World

LOOK = Analyse(
    AnalysisConfig(
        metrics=(
            MetricCondition(measure="error_rate", max=0.05, minimum_samples=20),
            MetricCondition(measure="accuracy", max_decrease=0.05, minimum_samples=20),
        ),
        interval=5.0,
        count=2,
        inconclusive_limit=3,
    )
)
CANARY = Plan("canary", (SetWeight(10), LOOK, SetWeight(50), LOOK, SetWeight(100)))
FINE = {1: good(270), 2: good(30)}
WORSE = {1: good(270), 2: bad(30)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def started(world: World, plan: Plan = CANARY) -> World:
    world.start(2, plan)
    world.settle()
    return world


def test_a_good_canary_takes_over(world: World) -> None:
    started(world)
    assert world.weights == {1: 90, 2: 10}
    world.run(5, FINE)
    assert world.weights == {1: 90, 2: 10}, "one success of two moves nothing"
    world.run(5, FINE)
    assert world.weights == {1: 50, 2: 50}
    state = world.run(5, FINE, rounds=2)

    assert (state.phase, state.settled, state.message) == ("Healthy", True, "v2 has all traffic")
    assert (world.weights, world.live) == ({2: 100}, (2,))
    assert world.calls() == [
        ["load", 2],
        ["set_weights", [1, {"1": 90, "2": 10}]],
        ["set_weights", [1, {"1": 50, "2": 50}]],
        ["set_weights", [1, {"1": 0, "2": 100}]],
        ["set_weights", [2, {"2": 100}]],
        ["unload", 1],
    ]


def test_what_the_store_has_in_the_end(world: World) -> None:
    started(world).run(5, FINE, rounds=4)
    facts = world.cell.read()
    assert facts["aliases"] == {"champion": 2}
    assert facts["version_tags"]["2"]["rayline.rollout"] == "Healthy"
    (run,) = facts["runs"].values()
    assert run["status"] == "FINISHED"
    assert run["tags"]["rayline.kind"] == "rollout"
    assert [value for name, value, _ in run["points"] if name == "weight"] == [10.0, 50.0, 100.0, 100.0]
    assert [value for name, value, _ in run["points"] if name == "accuracy.canary"] == [1.0] * 4
    steps = [step for _, _, step in run["points"]]
    assert steps == sorted(steps)
    account = json.loads(run["texts"]["rollout/decisions.json"])
    assert account["phase"] == "Healthy"
    assert [each["verdict"] for each in account["analyses"]] == ["Successful", "Successful"]
    assert account["decisions"][-1]["reason"] == "v2 has all traffic"


def test_a_bad_canary_goes_back_at_once_and_says_why(world: World) -> None:
    state = started(world).run(5, WORSE)
    reason = "accuracy of canary v2 0.1 < stable v1 1 - 0.05 (n = 30 and 270)"
    assert (state.phase, state.settled, state.message) == ("Degraded", True, reason)
    assert (world.weights, world.live) == ({1: 100}, (1,))
    assert world.calls()[-2:] == [["set_weights", [1, {"1": 100}]], ["unload", 2]]
    facts = world.cell.read()
    assert facts["aliases"] == {"champion": 1}, "the challenger has lost its alias"
    assert facts["version_tags"]["2"] == {"rayline.rollout": "Degraded", "rayline.rollout.reason": reason}
    (run,) = facts["runs"].values()
    assert (run["status"], run["tags"]["rayline.rollout.reason"]) == ("FAILED", reason)


def test_the_window_begins_with_the_step(world: World) -> None:
    serve(world.cell, 2, bad(1000))
    state = started(world).run(5, FINE, rounds=2)
    assert state.weight == 50, "what v2 answered before its canary step counts for nothing"


def test_too_few_samples_pause_for_a_person(world: World) -> None:
    started(world).run(5, {1: good(270), 2: good(3)}, rounds=3)
    assert world.state.phase == "Progressing"
    state = world.run(5)
    assert (state.phase, state.paused_for, state.weight) == ("Paused", "verdict", 10)
    assert "analysis at 10 % Inconclusive: error rate of canary v2 has too few samples: n = 9" in state.message
    assert world.run(500, FINE).weight == 10


@pytest.mark.parametrize(
    ("verb", "details", "weights"),
    [
        (verbs.promote, {}, {1: 50, 2: 50}),
        (verbs.resume, {}, {1: 90, 2: 10}),
        (verbs.abort, {"reason": "no"}, {1: 100}),
    ],
)
def test_a_person_decides_what_the_analysis_could_not(
    world: World, verb: Any, details: dict[str, str], weights: dict[int, int]
) -> None:
    started(world).run(5, rounds=4)
    world.ask(verb, **details)
    world.settle()
    assert world.weights == weights
    if verb is verbs.resume:
        assert world.run(5, FINE, rounds=2).weight == 50, "measured again from nothing"


def test_counts_that_cannot_be_read_pause_for_a_person(world: World) -> None:
    started(world)
    world.set(service_down="no answer")
    state = world.run(5, rounds=5)
    assert (state.phase, state.paused_for) == ("Paused", "verdict")
    assert "Error: error rate could not be measured: no answer" in state.message


def test_a_timed_pause_ends_by_itself_and_the_other_waits(world: World) -> None:
    started(world, Plan("canary", (SetWeight(10), Pause(30.0), SetWeight(20), Pause(None), SetWeight(100))))
    assert (world.state.phase, world.state.waiting) == ("Paused", False)
    assert world.run(29).weight == 10
    state = world.run(1)
    assert (state.weight, state.phase, state.waiting) == (20, "Paused", True)
    assert world.run(9999).weight == 20
    world.ask(verbs.promote)
    world.settle()
    assert world.state.phase == "Healthy"


def test_pause_and_resume_by_hand(world: World) -> None:
    started(world)
    world.ask(verbs.pause)
    assert world.run(50, WORSE, rounds=3).phase == "Paused"
    world.ask(verbs.resume)
    assert world.run(5).phase == "Degraded", "the window did not lose what happened during the pause"


def test_promote_in_full_skips_every_step(world: World) -> None:
    started(world)
    world.ask(verbs.promote, full=True)
    world.settle()
    assert (world.state.phase, world.weights) == ("Healthy", {2: 100})


def test_promote_of_what_is_not_paused_is_refused(world: World) -> None:
    started(world)
    with pytest.raises(RolloutRefused, match=r"is not paused \(Progressing, 10 %, step 2 of 5\).*promote bikes --full"):
        world.ask(verbs.promote)


@pytest.mark.parametrize("verb", [verbs.promote, verbs.pause, verbs.resume, verbs.abort])
@pytest.mark.parametrize(("traffic", "phase", "way"), [(FINE, "Healthy", "undo"), (WORSE, "Degraded", "start")])
def test_what_has_ended_takes_no_verb(world: World, verb: Any, traffic: Any, phase: str, way: str) -> None:
    started(world).run(5, traffic, rounds=4)
    details = {"reason": "x"} if verb is verbs.abort else {}
    with pytest.raises(RolloutRefused, match=f"is {phase}.*rollout {way} bikes"):
        world.ask(verb, **details)


def test_a_second_rollout_is_refused_and_names_the_first(world: World) -> None:
    started(world)
    with pytest.raises(RolloutRefused, match=r"rollout of 'bikes' to v2 is under way \(Progressing, 10 %.*abort bikes"):
        world.start(3, CANARY)
    with pytest.raises(RolloutRefused, match="cannot undo: a rollout of 'bikes' to v2 is under way"):
        world.undo()


def test_a_rollout_to_the_stable_version_is_refused(world: World) -> None:
    with pytest.raises(RolloutRefused, match="v1 of 'bikes' is the stable version already"):
        world.start(1, CANARY)


def test_undo_returns_at_once_and_can_be_undone(world: World) -> None:
    started(world).run(5, FINE, rounds=4)
    world.undo()
    world.settle()
    assert (world.state.phase, world.state.kind, world.weights, world.live) == ("Healthy", "undo", {1: 100}, (1,))
    facts = world.cell.read()
    assert facts["aliases"] == {"champion": 1}
    assert facts["version_tags"]["2"]["rayline.rollout"] == "Undone"
    world.undo()
    world.settle()
    assert world.weights == {2: 100}


def test_undo_after_a_return_goes_to_what_was_before_the_stable_version(world: World) -> None:
    started(world).run(5, FINE, rounds=4)
    world.start(3, CANARY)
    world.settle()
    world.run(5, {2: good(270), 3: bad(30)})
    assert world.weights == {2: 100}
    world.undo()
    world.settle()
    assert world.weights == {1: 100}


def test_nothing_to_undo_is_refused(world: World) -> None:
    with pytest.raises(RolloutRefused, match="no version to return to: no rollout brought v1"):
        world.undo()


def test_a_version_that_cannot_load_is_taken_back_after_some_attempts(world: World) -> None:
    world.set(broken={"load": "bundle is damaged"})
    started(world).run(10, rounds=3)
    assert world.state.phase == "Degraded"
    assert world.state.message == "v2 cannot be loaded: bundle is damaged"
    assert world.weights == {1: 100}


def test_a_service_that_is_away_for_a_moment_stops_nothing(world: World) -> None:
    started(world).run(5, FINE)
    world.set(service_down="restarting")
    world.run(5, rounds=2)
    world.set(service_down="")
    assert world.run(5, FINE, rounds=4).phase == "Healthy"


def test_a_return_is_tried_until_it_is_done(world: World) -> None:
    started(world)
    world.set(service_down="restarting")
    world.ask(verbs.abort, reason="no")
    world.run(30, rounds=20)
    assert world.weights == {1: 90, 2: 10}
    world.set(service_down="")
    assert world.run(30, rounds=2).settled
    assert (world.weights, world.live, world.state.message) == ({1: 100}, (1,), "no")


def test_a_tracking_store_that_is_away_moves_and_stops_nothing(world: World) -> None:
    world.set(store_down=True)
    state = started(world).run(5, FINE, rounds=4)
    assert (state.settled, world.weights) == (True, {2: 100})
    assert world.cell.read()["aliases"] == {"champion": 1}
    world.set(store_down=False)
    state = world.run(31, rounds=3)
    assert state.notes == ()
    facts = world.cell.read()
    assert facts["aliases"] == {"champion": 2}
    assert [run["status"] for run in facts["runs"].values()] == ["FINISHED"]


def test_what_the_store_has_not_taken_outlives_the_rollout(world: World) -> None:
    world.set(store_down=True)
    started(world).run(5, FINE, rounds=4)
    world.start(3, Plan.at_once())
    world.settle()
    world.restarted()
    world.set(store_down=False)
    world.run(31, rounds=3)
    facts = world.cell.read()
    assert facts["aliases"] == {"champion": 3}
    assert sorted(run["name"] for run in facts["runs"].values()) == ["bikes-rollout-v1-v2", "bikes-rollout-v2-v3"]
    assert {run["status"] for run in facts["runs"].values()} == {"FINISHED"}


def test_a_version_that_is_not_registered_is_moved_all_the_same(world: World) -> None:
    world.start(12, Plan.at_once())
    world.settle()
    assert (world.weights, world.state.notes) == ({12: 100}, ())
    refused = [each.reason for each in world.state.decisions if each.what == "untracked"]
    assert refused[0].startswith("SetAlias was refused by the tracking store: model 'bikes' has no version 12")
    assert world.state.message == "v12 has all traffic"


def test_weights_changed_from_outside_are_set_again(world: World) -> None:
    started(world)
    with world.cell.changed() as facts:
        facts["plan"] = TrafficPlan.from_json(facts["plan"]).weighing(1, {1: 40, 2: 60}).to_json()
    world.settle()
    assert world.weights == {1: 90, 2: 10}


def test_another_stable_version_ends_the_rollout_and_is_left_alone(world: World) -> None:
    started(world)
    with world.cell.changed() as facts:
        plan = TrafficPlan.from_json(facts["plan"]).adding(live_version(7)).weighing(7, {7: 100})
        facts["plan"] = plan.removing(1).removing(2).to_json()
    state = world.run(1)
    assert (state.phase, state.settled, world.weights) == ("Degraded", True, {7: 100})
    assert state.message == "the traffic was changed from outside (v7 100 %); this rollout leaves it alone"


def test_an_order_and_a_verb_that_are_sent_twice_act_once(world: World) -> None:
    state = world.start(2, Plan("canary", (SetWeight(10), Pause(None), SetWeight(20), Pause(None), SetWeight(100))))
    world.settle()
    again = world.engine.start(_order(state))
    assert again.id == state.id
    request = new_id()
    for _ in range(2):
        world.engine.ask(request, verbs.promote)
        world.settle()
    assert world.weights == {1: 80, 2: 20}


def test_what_comes_once_more_after_another_rollout_began_changes_nothing(world: World) -> None:
    first = world.start(2, CANARY)
    world.settle()
    request = new_id()
    world.engine.ask(request, lambda state, now: verbs.abort(state, now, reason="no"))
    world.settle()
    second = world.start(3, CANARY)
    world.settle()
    assert world.engine.start(_order(first)).id == first.id
    world.engine.ask(request, lambda state, now: verbs.abort(state, now, reason="no"))
    world.settle()
    assert (world.state.id, world.state.phase, world.weights) == (second.id, "Progressing", {1: 90, 3: 10})


def test_verbs_without_a_rollout_say_how_to_begin_one(world: World) -> None:
    with pytest.raises(NotFoundError, match=r"service 'bikes' has no rollout\. `rayline rollout start bikes`"):
        world.ask(verbs.pause)


def test_the_state_comes_back_as_it_was(world: World) -> None:
    started(world).run(5, FINE)
    state = world.state
    assert state.analysis is not None
    assert state.analysis.baseline is not None
    assert RolloutState.from_json(json.loads(json.dumps(state.to_json()))) == state
    assert RolloutFiles(world.folder, SERVICE).read() == state


def test_what_is_not_on_disk_is_not_done() -> None:
    def full(what: str) -> None:
        if disk_full:
            raise OSError("no space left")

    disk_full = False
    world = World(Path("nowhere"), files=MemoryFiles(before=full))
    started(world)
    disk_full = True
    world.clock.now += 5
    serve(world.cell, 1, good(270))
    serve(world.cell, 2, bad(30))
    calls = world.calls()
    for _ in range(3):
        with pytest.raises(OSError, match="no space left"):
            world.engine.tick()
    with pytest.raises(OSError, match="no space left"):
        world.ask(verbs.abort, reason="no")
    assert (world.state.phase, world.calls()) == ("Progressing", calls)
    disk_full = False
    world.settle()
    assert (world.state.phase, world.weights) == ("Degraded", {1: 100})


def _order(state: RolloutState) -> Any:
    from rayline.rollout.engine import Order

    return Order(state.id, "rollout", state.plan, state.canary_version, None, "exp")
