"""Drift: nothing for the same distribution, all of it for another, and no noise for few rows."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from rayline import meters
from rayline.serving.records.drift import LEAST_ROWS, MOST_COLUMNS, distance, drift_of
from rayline.serving.records.drift_watch import WINDOW_SECONDS, DriftWatch
from rayline.serving.records.observation import ArmStats, Observation
from rayline.serving.records.yardstick import MISSING, OTHER, Ruler, Yardstick
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan

SHARES = (0.2, 0.3, 0.5)
YARDSTICK = Yardstick(
    {
        "age": Ruler.counting("age", "numeric", edges=(1.0, 2.0)),
        "plan": Ruler.counting("plan", "categorical", levels=("a", "b", "c")),
    },
    {"age": SHARES, "plan": SHARES},
)
SAME = {"0": 200, "1": 300, "2": 500}


def arm(**columns: dict[str, int]) -> ArmStats:
    return ArmStats(feature_counts=columns)


counts = some.dictionaries(some.sampled_from("abcdef"), some.integers(1, 10_000), min_size=1)


@given(counts, counts)
def test_a_distance_lies_between_0_and_1(live: dict[str, int], other: dict[str, int]) -> None:
    total = sum(other.values())
    assert 0.0 <= distance(live, {key: value / total for key, value in other.items()}, total) <= 1.0


def test_the_same_is_0_and_nothing_in_common_is_1() -> None:
    assert distance(SAME, dict(zip("012", SHARES, strict=True))) == 0.0
    assert distance({"9": 10**9}, {"0": 1.0}) > 0.9999


def test_chance_alone_shows_no_drift() -> None:
    chance = np.random.default_rng(3)
    shares = dict.fromkeys("0123456789", 0.1)
    drawn = [chance.multinomial(LEAST_ROWS, [0.1] * 10) for _ in range(400)]
    found = [distance({str(place): int(n) for place, n in enumerate(each)}, shares) for each in drawn]
    squares = [value**2 for value in found]
    raw = 9 / (8 * LEAST_ROWS * math.log(2))
    assert np.mean(squares) < 0.5 * raw, "what chance gives on average is taken off"


def test_columns_are_measured_against_training() -> None:
    moved = {"a": 500, "b": 300, "c": 200}
    drift = drift_of({1: arm(age=SAME, plan=moved)}, 1, YARDSTICK)[1]
    assert drift.columns["age"] == 0.0
    assert drift.columns["plan"] > 0.2
    assert drift.predictions is None


def test_a_new_level_is_drift_and_a_gap_is_not() -> None:
    known = {"a": 200, "b": 300, "c": 500}
    columns = drift_of({1: arm(plan={**known, MISSING: 900})}, 1, YARDSTICK)[1].columns
    assert columns == {"plan": 0.0}
    columns = drift_of({1: arm(plan={**known, OTHER: 300})}, 1, YARDSTICK)[1].columns
    assert columns["plan"] > 0.2


def test_few_rows_and_unknown_columns_tell_nothing() -> None:
    assert drift_of({1: arm(age={"0": LEAST_ROWS - 1}, size=SAME)}, 1, YARDSTICK)[1].columns == {}


def test_a_column_of_many_levels_tells_nothing_until_each_could_have_come_often_enough() -> None:
    levels = tuple(f"l{number:02d}" for number in range(90))
    stick = Yardstick(
        {"town": Ruler.counting("town", "categorical", levels=levels)}, {"town": tuple([1 / 90] * len(levels))}
    )
    chance = np.random.default_rng(5)
    few, enough = (
        {key: int(n) for key, n in zip(levels, chance.multinomial(rows, [1 / 90] * 90), strict=True)}
        for rows in (449, 450)
    )
    assert drift_of({1: arm(town=few)}, 1, stick)[1].columns == {}
    assert drift_of({1: arm(town=enough)}, 1, stick)[1].columns["town"] < 0.2
    half = dict.fromkeys(levels[:45], 10)
    assert drift_of({1: arm(town=half)}, 1, stick)[1].columns["town"] > 0.5


def test_a_canary_is_compared_with_the_stable_version() -> None:
    stats = {
        1: ArmStats(prediction_counts={"yes": 500, "no": 500}),
        2: ArmStats(prediction_counts={"yes": 900, "no": 100}),
        3: ArmStats(prediction_counts={"yes": 3}),
    }
    drift = drift_of(stats, 1, YARDSTICK)
    assert drift[2].predictions is not None
    assert drift[2].predictions > 0.3
    assert drift[3].predictions is None


def test_the_columns_that_moved_most_are_shown() -> None:
    names = [f"c{number:03d}" for number in range(MOST_COLUMNS + 5)]
    rulers = {name: Ruler.counting(name, "numeric", edges=(1.0,)) for name in names}
    stick = Yardstick(rulers, dict.fromkeys(names, (0.5, 0.5)))
    stats = arm(**{name: {"0": 500 + 10 * place, "1": 500 - 10 * place} for place, name in enumerate(names)})
    found = drift_of({1: stats}, 1, stick)[1].columns
    assert len(found) == MOST_COLUMNS
    assert names[-1] in found
    assert names[0] not in found


def test_the_watch_shows_a_window_and_forgets_a_version_that_left() -> None:
    live = LiveVersion(1, "/bundles/1", "d1")
    plan = TrafficPlan.first("watched", live)
    seen = {"age": {"0": 0, "1": 0, "2": 0}}

    def look() -> tuple[TrafficPlan, Observation]:
        counted = {number: arm(age=dict(seen["age"])) for number in (1, 2)}
        return plan, Observation(0.0, plan.generation, {"replica-a": counted})

    watch = DriftWatch(look, lambda service: YARDSTICK)
    watch.step()
    seen["age"] = {"0": 500, "1": 300, "2": 200}
    watch.step()
    shown = meters.shown()
    assert shown[("rayline_feature_drift", ("watched", "1", "age"))] > 0.2
    assert ("rayline_feature_drift", ("watched", "2", "age")) not in shown, "it is not live"
    assert WINDOW_SECONDS >= 60
    meters.hide("rayline_feature_drift", 0.0, service="watched")
