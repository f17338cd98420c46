"""The search space is checked whole before any worker starts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.config import Config, ModelConfig, Space, with_values
from rayline.errors import ConfigError
from rayline.tuning.space.space import check, searchable, settings_of
from training_examples import spec_of, study_config

OWN = spec_of(model=ModelConfig(builder="package.module:build"))
RATE = Space(low=1e-3, high=1e-1, log=True)


def test_a_good_space_is_given_back() -> None:
    space = {
        "train.learning_rate": RATE,
        "train.batch_size": Space(low=16, high=64, integer=True),
        "model.options.depth": Space(choose=(1, "two", None)),
    }
    assert check(study_config(space, OWN)) == space


def test_options_are_searched_where_the_builder_has_them() -> None:
    with pytest.raises(ConfigError, match=r"model.builder 'mlp' has no option 'depth'.*'mlp' has model.hidden and"):
        check(study_config({"model.options.depth": RATE}))


def test_no_space_is_refused_with_an_example() -> None:
    with pytest.raises(ConfigError, match=r"needs a 'space' to search, for instance train\.learning_rate"):
        check(study_config({}))
    without = Config(name="t", data=study_config({}).data, features=study_config({}).features)
    with pytest.raises(ConfigError, match="needs a 'space'"):
        check(without)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("train.learning_rat", "train.learning_rate"),
        ("train.lerning_rate", "train.learning_rate"),
        ("model.hiden", "model.hidden"),
        ("trian.batch_size", "train.batch_size"),
    ],
)
def test_a_mistyped_key_is_told_the_nearest(key: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key '{key}'. Did you mean '{near}'"):
        check(study_config({key: RATE}))


@pytest.mark.parametrize("key", ["data.source", "storage", "model", "model.options", "tune.trials"])
def test_only_the_model_and_its_training_can_be_searched(key: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key '{key}'"):
        check(study_config({key: RATE}))


@pytest.mark.parametrize("key", ["train.metric", "train.num_workers", "train.use_gpu"])
def test_what_trials_must_agree_on_cannot_be_searched(key: str) -> None:
    assert key not in searchable()
    with pytest.raises(ConfigError, match=f"cannot search '{key}': trials must agree on it"):
        check(study_config({key: Space(choose=(1, 2))}))


@pytest.mark.parametrize(
    ("key", "space", "value"),
    [
        ("train.learning_rate", Space(low=0.0, high=0.1), "0.0"),
        ("train.batch_size", Space(low=0, high=64, integer=True), "0"),
        ("train.batch_size", Space(low=1, high=64), r"21\."),  # a span of real numbers
        ("model.dropout", Space(low=0.1, high=1.0), "1.0"),
        ("model.hidden", Space(choose=((8,), (0,))), r"\(0,\)"),
        ("train.epochs", Space(choose=(5, "many")), "'many'"),
    ],
)
def test_a_value_that_the_configuration_refuses_is_named(key: str, space: Space, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"tune\.space '{key}' reaches {value}"):
        check(study_config({key: space}))


def test_a_logarithmic_span_of_whole_numbers_begins_at_one() -> None:
    space = Space(low=0.5, high=8, log=True, integer=True)
    with pytest.raises(ConfigError, match=r"'model\.options\.depth'.*low of 1 or more, not 0\.5"):
        check(study_config({"model.options.depth": space}, OWN))


@given(st.floats(1e-6, 1e-1), st.integers(1, 512), st.lists(st.integers(1, 64), max_size=3).map(tuple))
def test_a_suggestion_becomes_a_configuration(rate: float, size: int, hidden: tuple[int, ...]) -> None:
    params: dict[str, Any] = {"train.learning_rate": rate, "train.batch_size": size, "model.hidden": hidden}
    config = with_values(study_config({"train.learning_rate": RATE}), settings_of(params))
    assert (config.train.learning_rate, config.train.batch_size, config.model.hidden) == (rate, size, hidden)
