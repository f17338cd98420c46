"""What each strategy becomes, which plans are refused, and how long their steps take."""

from __future__ import annotations

from typing import Any

import pytest

from rayline.config import AnalysisConfig
from rayline.errors import ConfigError
from rayline.rollout.plans.plan import Analyse, Ask, Bake, Conclude, MirrorTraffic, Pause, Plan, RouteHeader, SetWeight
from rayline.rollout.policy.timing import expected
from rollout_simulation import section

ERRORS = {"interval": 5, "count": 4, "initial_delay": "10s", "metrics": [{"measure": "error_rate", "max": 0.01}]}
COPIES = {"metrics": [{"measure": "agreement", "min": 0.9}]}


def steps(**rollout: Any) -> tuple[Any, ...]:
    return Plan.from_config(section(**rollout)).steps


def test_blue_green_previews_waits_moves_at_once_and_bakes() -> None:
    found = steps(strategy="blue_green", blue_green={"pre_promotion": COPIES, "scale_down_delay": "5m"})
    assert [type(step) for step in found] == [
        RouteHeader,
        MirrorTraffic,
        Analyse,
        MirrorTraffic,
        Pause,
        SetWeight,
        Bake,
    ]
    assert found[0] == RouteHeader("x-rayline-preview", "true")
    assert found[4:] == (Pause(None), SetWeight(100), Bake(300.0))


def test_linear_rises_by_steps() -> None:
    found = steps(strategy="linear", linear={"step_weight": 40, "interval": "1m"})
    assert found == (SetWeight(40), Pause(60.0), SetWeight(80), Pause(60.0), SetWeight(100))


def test_shadow_and_a_reported_experiment_move_nothing() -> None:
    assert isinstance(steps(strategy="shadow")[-1], Conclude)
    assert steps(strategy="shadow", shadow={"promote": True})[-1] == SetWeight(100)
    asked = {"measure": "accuracy"}
    assert [type(each) for each in steps(strategy="experiment", experiment=asked)] == [SetWeight, Ask, Conclude]
    assert steps(strategy="experiment", experiment={**asked, "winner": "promote"})[-1] == SetWeight(100)


def test_a_bake_watches_what_can_still_be_judged() -> None:
    analysis = {
        "metrics": [
            {"measure": "error_rate", "max": 0.01, "max_increase": 0.1},
            {"measure": "prediction_shift", "max": 0.2},
            {"measure": "latency", "max_ratio": 2.0},
        ]
    }
    bake = steps(analysis=analysis, bake="10m")[-1]
    assert isinstance(bake, Bake)
    assert isinstance(bake.watch, AnalysisConfig)
    assert [each.measure for each in bake.watch.metrics] == ["error_rate"]
    assert bake.watch.metrics[0].max_increase is None


def test_steps_are_written_as_in_argo() -> None:
    found = steps(
        steps=[
            {"set_mirror": {"percent": 50}},
            {"set_header_route": {"header": "X-Preview"}},
            {"set_weight": 10},
            {"pause": {"duration": "5m"}},
            {"pause": {}},
            {"pause": "30s"},
            {"set_mirror": 0},
            {"set_header_route": None},
            {"set_weight": 100},
            {"bake": "1h"},
        ]
    )
    assert found == (
        MirrorTraffic(50),
        RouteHeader("x-preview", "canary"),
        SetWeight(10),
        Pause(300.0),
        Pause(None),
        Pause(30.0),
        MirrorTraffic(0),
        RouteHeader(None),
        SetWeight(100),
        Bake(3600.0),
    )


def test_what_each_step_takes_is_known_before_it_starts() -> None:
    plan = Plan.from_config(
        section(steps=[{"set_weight": 5}, {"analysis": ERRORS}, {"pause": 30}, {"pause": {}}], bake=60)
    )
    assert expected(plan) == (0.0, 30.0, 30.0, None, 0.0, 60.0)


def test_the_chance_to_err_is_divided_over_the_analyses() -> None:
    beside = {"metrics": [{"measure": "error_rate", "max": 0.1}]}
    assert Plan.from_config(section(confidence=0.9)).alpha == pytest.approx(0.05)
    assert Plan.from_config(section(confidence=0.9, background_analysis=beside)).alpha == pytest.approx(0.1 / 3)


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        ({"strategy": "experiment"}, "needs its question"),
        ({"strategy": "linear", "steps": [{"set_weight": 5}]}, "'linear' has no steps"),
        ({"strategy": "canary", "shadow": {"percent": 5}}, "these settings need strategy: shadow, not canary"),
        ({"strategy": "shadow", "bake": 5}, "moves no traffic"),
        ({"steps": [{"set_weight": 5}, {"bake": 5}]}, "comes after set_weight 100"),
        ({"steps": [{"set_weight": 5}, {"pause": "5 minutes"}]}, "no duration. Write seconds"),
        ({"steps": [{"set_weight": 5}, {"analysis": COPIES}]}, "Put a set_mirror before it"),
        ({"steps": [{"set_header_route": {"header": "X-Session-Id"}}]}, "has a meaning of its own already"),
        ({"background_analysis": {"from_step": 9, **ERRORS}}, "from_step 9 is beyond the last step, 5"),
        ({"analysis": {"metrics": [{"measure": "prometheus", "max": 1}]}}, "'query' is missing"),
        ({"analysis": {"metrics": [{"measure": "latency", "max": 1, "by_slice": True}]}}, "not counted by slice"),
        ({"analysis": {"metrics": [{"measure": "latency", "success_condition": "p95 < 1"}]}}, "'p95' is unknown"),
        (
            {"analysis": {"metrics": [{"measure": "feature_drift", "success_condition": "result < stable"}]}},
            "one number, not one for each version",
        ),
    ],
)
def test_a_plan_that_cannot_work_is_refused_with_the_way_out(rollout: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        steps(**rollout)
