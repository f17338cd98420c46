"""What a rollout still takes, before and while it runs, and what both arms did, as those who watch see it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from rayline.cli.rollout_picture import history_table, picture
from rayline.cli.rollout_words import latency_words, seconds_words, span_words
from rayline.config import AnalysisConfig, MetricCondition
from rayline.rollout import commands
from rayline.rollout.analysis.glance import Glance
from rayline.rollout.plans.outlook import NOTHING, PERSON, Span, least, outlook
from rayline.rollout.plans.plan import Analyse, Bake, Pause, Plan, SetWeight
from rayline.rollout.policy import verbs
from rayline.serving.records.observation import ArmStats
from rollout_doubles import SERVICE, arm, good, serve
from rollout_world import World

LOOK = Analyse(
    AnalysisConfig(
        metrics=(MetricCondition(measure="error_rate", max=0.05, minimum_samples=20),),
        interval=5.0,
        count=3,
        initial_delay=2.0,
        inconclusive_limit=4,
    )
)
PLAN = Plan("canary", (SetWeight(10), LOOK, Pause(300.0), SetWeight(50), Pause(None), SetWeight(100), Bake(60.0)))
FINE = {1: good(270), 2: good(30)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.start(2, PLAN)
    yield world
    world.engine.close()


def left(world: World) -> tuple[Span, ...]:
    return outlook(world.state, world.clock())


def test_each_step_is_known_before_it_starts(world: World) -> None:
    expected = (NOTHING, Span(17.0, 37.0), Span(300.0, 300.0), NOTHING, PERSON, NOTHING, Span(60.0, 60.0))
    assert left(world) == expected
    assert least(left(world)) == 377.0


def test_what_is_left_shrinks_as_time_goes_by_and_grows_by_what_gave_no_verdict(world: World) -> None:
    world.settle()
    assert left(world)[1] == Span(17.0, 37.0)
    world.run(7, FINE)
    assert left(world)[1] == Span(10.0, 30.0)
    world.clock.now += 2
    assert left(world)[1] == Span(8.0, 28.0)
    world.run(3)
    world.clock.now += 5
    assert left(world)[1] == Span(0.0, 20.0), "the last measurement is due"
    world.settle()
    assert left(world)[:2] == (NOTHING, NOTHING), "the analysis is over"
    world.run(100)
    assert left(world)[2] == Span(200.0, 200.0)
    world.run(200)
    assert left(world)[4] == PERSON
    assert least(left(world)) == 60.0
    world.ask(verbs.abort, reason="no")
    assert least(left(world)) == 0.0


def test_both_arms_since_the_step_began_can_be_read_by_anybody(world: World) -> None:
    serve(world.cell, 2, arm(1000, errors=1000))
    world.settle()
    assert commands.arms(SERVICE, storage=world.folder) is None, "nobody has looked yet"
    serve(world.cell, 1, arm(300, seconds=0.001, feedback=40, correct=30))
    serve(world.cell, 2, arm(100, errors=2, seconds=0.02))
    world.engine.look_around()
    world.engine.beat()
    seen = commands.arms(SERVICE, storage=world.folder)
    assert seen is not None
    stable, canary = seen.arms
    assert (stable.number, stable.requests, stable.error_rate, stable.accuracy) == (1, 300, 0.0, 0.75)
    assert (canary.number, canary.requests, canary.error_rate, canary.feedback) == (2, 100, 0.02, 0)
    assert stable.p95 is not None
    assert canary.p50 is not None
    assert stable.p95 < 0.002 < 0.01 < canary.p50
    assert canary.accuracy is None
    world.set(service_down="away")
    with pytest.raises(Exception, match="away"):
        world.engine.look_around()
    assert commands.arms(SERVICE, storage=world.folder) == seen, "the last look stays"


def test_a_regression_shows_its_error_and_no_accuracy(world: World) -> None:
    world.settle()
    serve(world.cell, 1, ArmStats(requests=5, feedback=4, absolute_error=6.0))
    world.engine.look_around()
    world.engine.beat()
    seen = commands.arms(SERVICE, storage=world.folder)
    assert seen is not None
    assert (seen.arms[0].mean_absolute_error, seen.arms[0].accuracy) == (1.5, None)


def test_what_is_no_glance_is_none() -> None:
    assert Glance.from_text("") is None
    assert Glance.from_text('{"rollout": 1}') is None


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_holds_steps_times_shares_and_both_arms(world: World, width: int) -> None:
    world.settle()
    world.run(7, FINE)
    world.engine.look_around()
    world.engine.beat()
    console = Console(width=width, record=True, file=(world.folder / "screen").open("w"))
    seen = commands.arms(SERVICE, storage=world.folder)
    console.print(picture(world.state, now=world.clock() + 1.5, seen=seen))
    console.file.close()
    lines = console.export_text().splitlines()
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("bikes  v1 → v2  canary  Progressing  since 8.5 s  6 min 8 s left at least")
    assert "v1  90 % ━" in text
    for words in (
        "✓  1  weight 10 %",
        "▶  2  analysis of error rate  8.5 s to 28 s left",
        "·  3  pause                   5 min",
        "·  5  pause until promoted    as long as a person takes",
        "✓  error rate of canary v2 0 <= 0.05",
    ):
        assert words in text, text
    arms = [line.split() for line in lines if " stable " in line or line.strip().startswith("v2 canary")]
    assert [each[:4] for each in arms] == [["v1", "stable", "270", "0.00"], ["v2", "canary", "30", "0.00"]]


def test_all_rollouts_are_listed_with_what_became_of_them(world: World) -> None:
    world.settle()
    world.ask(verbs.abort, reason="not wanted")
    world.settle()
    world.retry()
    world.settle()
    found = commands.history(SERVICE, storage=world.folder)
    assert [(each.canary, each.phase) for each in found] == [(2, "Progressing"), (2, "Degraded")]
    assert "tried once more" in found[0].decisions[0].reason
    console = Console(width=120, record=True, file=(world.folder / "screen").open("w"))
    console.print(history_table(found))
    console.file.close()
    first, second = console.export_text().splitlines()[1:3]
    assert "v1 → v2" in first
    assert "Degraded" in second
    assert second.rstrip().endswith("not wanted")


def test_undo_goes_to_an_earlier_version(world: World) -> None:
    world.settle()
    world.ask(verbs.promote, full=True)
    world.settle()
    world.run(61)
    world.start(3, Plan.at_once())
    world.settle()
    assert world.weights == {3: 100}
    world.undo(to=1)
    world.settle()
    assert (world.state.phase, world.weights, world.live) == ("Healthy", {1: 100}, (1,))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0.0 s"), (4.24, "4.2 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert seconds_words(seconds) == words
    assert span_words(Span(seconds, seconds), begun=False) == ("" if seconds == 0 else words)


def test_spans_and_latencies_in_words() -> None:
    assert span_words(Span(8.0, 20.0), begun=True) == "8.0 s to 20 s left"
    assert span_words(Span(0.0, 604_800.0), begun=False) == "7 d at most"
    assert span_words(Span(0.0, math.inf), begun=True) == "waits for a person"
    assert [latency_words(each) for each in (None, 0.00084, 0.0123, 1.31)] == ["-", "0.84 ms", "12 ms", "1.3 s"]
