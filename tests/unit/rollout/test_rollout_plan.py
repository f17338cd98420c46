"""Plans: what a configuration becomes, and which plans are refused before anything moves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.config import RolloutConfig, parse
from rayline.errors import ConfigError, NotFoundError
from rayline.rollout.plans.plan import DEFAULT_ANALYSIS, Analyse, Pause, Plan, SetWeight, load_plan

READY = sorted((Path(__file__).parents[3] / "configs" / "rollout").glob("*.yaml"))
ERRORS = {"metrics": [{"measure": "error_rate", "max": 0.01}]}
SHIFT = {"metrics": [{"measure": "prediction_shift", "max": 0.3}]}


def config(**section: Any) -> RolloutConfig:
    raw = {"name": "x", "data": {"source": "x"}, "features": {"target": "x"}, "rollout": section}
    return parse(raw).rollout


def compiled(*steps: dict[str, Any], **section: Any) -> Plan:
    return Plan.from_config(config(steps=list(steps), **section))


def test_the_default_is_a_canary_in_three_weights() -> None:
    look = Analyse(DEFAULT_ANALYSIS)
    assert Plan.from_config(config()).steps == (SetWeight(10), look, SetWeight(50), look, SetWeight(100))


def test_all_at_once_is_one_step() -> None:
    assert Plan.from_config(config(strategy="all_at_once")) == Plan("all_at_once", (SetWeight(100),))


def test_steps_keep_their_order_and_end_at_100() -> None:
    plan = compiled({"set_weight": 5}, {"pause": 30}, {"pause": True}, {"analysis": ERRORS}, {"set_weight": 25})
    assert [type(step) for step in plan.steps] == [SetWeight, Pause, Pause, Analyse, SetWeight, SetWeight]
    assert plan.steps[1:3] == (Pause(30.0), Pause(None))
    assert plan.steps[-1] == SetWeight(100)


def test_a_step_may_bring_its_own_analysis() -> None:
    plan = compiled({"set_weight": 5}, {"analysis": ERRORS}, {"analysis": True}, analysis=SHIFT)
    first, second = plan.steps[1:3]
    assert isinstance(first, Analyse)
    assert isinstance(second, Analyse)
    assert (first.config.metrics[0].measure, second.config.metrics[0].measure) == ("error_rate", "prediction_shift")


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"set_weight": 50}, {"set_weight": 10}], r"rollout.steps\[1\]: set_weight 10 follows 50. Weights rise"),
        ([{"set_weight": 10}, {"set_weight": 10}], "set_weight 10 follows 10"),
        ([{"analysis": ERRORS}, {"set_weight": 10}], "an analysis at weight 0 would never see a request"),
        ([{"set_weight": 0}, {"analysis": ERRORS}], "at weight 0"),
        ([{"set_weight": 100}, {"analysis": SHIFT}], "at weight 100 the stable version has no traffic"),
        ([{"set_weight": 5}, {"analysis": {"metrics": [{"measure": "accuracy"}]}}], "no limit is set"),
        (
            [{"set_weight": 5}, {"analysis": {"metrics": [{"measure": "accuracy", "max": 0.9}]}}],
            "'max' cannot bound it. It takes min, max_decrease",
        ),
    ],
)
def test_a_plan_that_cannot_work_is_refused(steps: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compiled(*steps)


def test_all_at_once_with_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="'all_at_once' has no steps"):
        compiled({"set_weight": 10}, strategy="all_at_once")


@pytest.mark.parametrize(
    ("measure", "task", "other"),
    [("accuracy", "regression", "mean_absolute_error"), ("mean_absolute_error", "binary", "accuracy")],
)
def test_a_measure_of_another_task_is_refused(measure: str, task: Any, other: str) -> None:
    bound = {"accuracy": "min", "mean_absolute_error": "max"}[measure]
    section = config(steps=[{"set_weight": 5}, {"analysis": {"metrics": [{"measure": measure, bound: 1}]}}])
    with pytest.raises(ConfigError, match=f"Use '{other}'"):
        Plan.from_config(section, task)
    assert Plan.from_config(section, None).steps[0] == SetWeight(5)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_weights_either_rise_to_100_or_are_refused(weights: list[int]) -> None:
    steps = [{"set_weight": weight} for weight in weights]
    if all(later > earlier for earlier, later in itertools.pairwise(weights)):
        found = [step.weight for step in compiled(*steps).steps if isinstance(step, SetWeight)]
        assert found == weights + ([] if weights[-1] == 100 else [100])
    else:
        with pytest.raises(ConfigError, match="Weights rise"):
            compiled(*steps)


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_the_ready_plans_compile(path: Path) -> None:
    plan = Plan.from_config(load_plan(path))
    assert plan.moves == (SetWeight(100) in plan.steps)


def test_there_are_ready_plans() -> None:
    strategies = {load_plan(path).strategy for path in READY}
    assert strategies == {"all_at_once", "blue_green", "canary", "linear", "shadow", "experiment"}


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("steps: [", ConfigError, "is not valid YAML"),
        ("- set_weight: 10", ConfigError, "must be a mapping"),
        ("stategy: canary", ConfigError, "unknown configuration key 'rollout.stategy'. Did you mean 'strategy'"),
        ("steps: [{set_weight: 120}]", ConfigError, "rollout.steps"),
        ("steps: [{analysis: true}]", ConfigError, "at weight 0"),
    ],
)
def test_a_plan_file_with_a_mistake_is_refused(tmp_path: Path, text: str, kind: type[Exception], said: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(kind, match=said):
        load_plan(file)


def test_a_plan_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"missing\.yaml' does not exist"):
        load_plan(tmp_path / "missing.yaml")
