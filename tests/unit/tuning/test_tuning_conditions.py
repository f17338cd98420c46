"""Conditional spaces, spaces over features, and finite ones: all is told before any worker starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rayline.config import (
    CategoricalConfig,
    Config,
    DataConfig,
    FeaturesConfig,
    ModelConfig,
    NumericConfig,
    Space,
    TuneConfig,
    plain,
    with_values,
)
from rayline.errors import ConfigError
from rayline.tuning.space.conditions import applies, every_value, grid, holds, ordered
from rayline.tuning.space.space import check, declared, feature_points, settings_of

COLUMNS = {"hour": "numeric", "temp": NumericConfig(log=True), "town.name": "categorical", "day": "datetime"}
BUILDERS = Space(choose=("mlp", "residual_mlp", "cnn"))


def config_of(space: Mapping[str, Any], columns: Mapping[str, Any] = COLUMNS, model: Any = None, **tune: Any) -> Config:
    return Config(
        name="t",
        data=DataConfig(source="t.csv"),
        features=FeaturesConfig(target="y", columns=dict(columns)),
        model=model or ModelConfig(),
        tune=TuneConfig(space=dict(space), **tune),
    )


def yes(**when: Any) -> Space:
    return Space(choose=(True, False), when={key.replace("__", "."): value for key, value in when.items()})


def test_a_trial_makes_a_section_of_a_column_that_is_declared_by_its_kind_alone() -> None:
    config = config_of({"features.columns.hour.scale": Space(choose=("none", "minmax"))})
    check(config)
    chosen = with_values(config, {"features.columns.hour.scale": "minmax"})
    assert chosen.features.columns["hour"] == NumericConfig(scale="minmax")
    assert chosen.features.columns["town.name"] == "categorical"


def test_a_column_may_have_dots_in_its_name() -> None:
    config = config_of({"features.columns.town.name.encode": Space(choose=("index", "target"))})
    check(config)
    chosen = with_values(config, {"features.columns.town.name.encode": "index"})
    assert chosen.features.columns["town.name"] == CategoricalConfig(encode="index")


def test_use_tells_which_features_go_in_and_their_settings_follow_it() -> None:
    config = config_of(
        {"features.columns.temp.use": yes(), "features.columns.temp.scale": Space(choose=("none", "robust"))}
    )
    space = check(config)
    assert space["features.columns.temp.scale"].when == {"features.columns.temp.use": True}
    assert [dict(point) for point in feature_points(space) or ()] == [
        {"features.columns.temp.use": True, "features.columns.temp.scale": "none"},
        {"features.columns.temp.use": True, "features.columns.temp.scale": "robust"},
        {"features.columns.temp.use": False},
    ]
    without = with_values(config, {"features.columns.temp.use": False, "features.columns.temp.scale": "none"})
    assert list(without.features.columns) == ["hour", "town.name", "day"]
    kept = with_values(config, {"features.columns.temp.use": True, "features.columns.temp.scale": "robust"})
    assert kept.features.columns["temp"] == NumericConfig(log=True, scale="robust")


def test_a_column_may_be_read_as_several_kinds_each_with_its_own_settings() -> None:
    kind = "features.columns.temp.kind"
    config = config_of(
        {
            kind: Space(choose=("numeric", "categorical")),
            "features.columns.temp.bins": Space(low=2, high=9, integer=True, when={kind: "numeric"}),
            "features.columns.temp.encode": Space(choose=("one_hot", "index"), when={kind: "categorical"}),
        }
    )
    check(config)
    chosen = with_values(config, {"features.columns.temp.encode": "index", kind: "categorical"})
    assert chosen.features.columns["temp"] == CategoricalConfig(encode="index")
    same = with_values(config, {kind: "numeric", "features.columns.temp.bins": 4})
    assert same.features.columns["temp"] == NumericConfig(log=True, bins=4)


def test_another_builder_begins_without_the_options_of_the_one_before() -> None:
    base = ModelConfig(builder="residual_mlp", options={"width": 8})
    config = config_of(
        {
            "model.builder": BUILDERS,
            "model.options.width": Space(choose=(8, 16), when={"model.builder": "residual_mlp"}),
            "model.options.hidden": Space(choose=(8, 16), when={"model.builder": "cnn"}),
            "model.options.dropout": Space(low=0, high=0.5, when={"model.builder": ["cnn", "residual_mlp"]}),
            "model.hidden": Space(choose=((8,), (16,)), when={"model.builder": "mlp"}),
        },
        model=base,
    )
    check(config)
    assert with_values(config, {"model.builder": "residual_mlp"}).model == base
    other = with_values(config, {"model.options.hidden": 16, "model.builder": "cnn"})
    assert other.model == ModelConfig(builder="cnn", options={"hidden": 16})


REFUSED = {
    "a misspelt column": (
        {"features.columns.huor.scale": yes()},
        r"unknown key 'features\.columns\.huor\.scale'\. Did you mean 'features\.columns\.hour\.scale'",
    ),
    "a misspelt setting": (
        {"features.columns.hour.scael": yes()},
        r"unknown key .*Did you mean 'features\.columns\.hour\.scale'",
    ),
    "a misspelt word": (
        {"features.columns.hour.scale": Space(choose=("none", "mimax"))},
        r"'features\.columns\.hour\.scale' reaches 'mimax': .*Did you mean 'minmax'",
    ),
    "a misspelt section": ({"feature.drop": yes()}, r"unknown key 'feature\.drop'\. Did you mean 'features\.drop'"),
    "another kind's setting": (
        {"features.columns.hour.encode": Space(choose=("index",))},
        r"a numeric column has no 'encode'\. Only categorical has",
    ),
    "a setting of one of the kinds": (
        {
            "features.columns.hour.kind": Space(choose=("numeric", "categorical")),
            "features.columns.hour.encode": Space(choose=("index",)),
        },
        r"a numeric column has no 'encode'\. Add when: \{features\.columns\.hour\.kind: categorical\}",
    ),
    "use is no boolean": (
        {"features.columns.hour.use": Space(choose=("yes", "no"))},
        r"reaches 'yes': key 'features\.columns\.hour\.use' is true or false",
    ),
    "no feature left": (
        {f"features.columns.{name}.use": yes() for name in COLUMNS},
        "reaches a trial without any feature: every column has a 'use'",
    ),
    "no feature left beside what is dropped": (
        {"features.columns.hour.use": yes(), "features.drop": Space(choose=((), ("temp", "town.name", "day")))},
        r"without any feature: with features\.drop \['temp', 'town\.name', 'day'\]",
    ),
    "what is dropped does not exist": (
        {"features.drop": Space(choose=((), ("tmep",)))},
        r"reaches \['tmep'\]: 'tmep'\? Did you mean 'temp'",
    ),
    "the target": ({"features.target": Space(choose=("y", "z"))}, "trials must agree on it"),
    "how it runs": ({"train.feed": Space(choose=("memory", "ray_data"))}, "how a trial runs, and not what comes of it"),
    "windows": (
        {"features.windows.w.rows": Space(low=1, high=3, integer=True)},
        r"into which part it falls.*search features\.columns\.NAME\.use",
    ),
    "a condition on what is not searched": (
        {"train.momentum": Space(low=0, high=0.9, when={"train.optimiser": "sgd"}), "train.optimizer": yes()},
        r"when: train\.optimiser, which is not searched itself\. Did you mean 'train\.optimizer'",
    ),
    "a circle": (
        {
            "train.epochs": Space(choose=(1, 2), when={"train.seed": 1}),
            "train.seed": Space(choose=(1,), when={"train.epochs": 1}),
        },
        r"round in a circle: 'train\.epochs' needs 'train\.seed' needs 'train\.epochs'",
    ),
    "a value that the parent has not": (
        {
            "train.optimizer": Space(choose=("sgd", "adam")),
            "train.momentum": Space(low=0, high=0.9, when={"train.optimizer": "sdg"}),
        },
        r"when: train\.optimizer: 'sdg', which is not among its values\. Did you mean 'sgd'",
    ),
    "a value outside the parent's span": (
        {
            "train.epochs": Space(low=1, high=5, integer=True),
            "train.seed": Space(choose=(1,), when={"train.epochs": 9}),
        },
        r"not among its values\. It goes from 1 to 5",
    ),
    "a condition on a span": (
        {
            "train.learning_rate": Space(low=0.1, high=1),
            "train.seed": Space(choose=(1,), when={"train.learning_rate": 0.5}),
        },
        "span of real numbers: no trial has just one value",
    ),
    "a condition that no trial meets": (
        {
            "train.optimizer": Space(choose=("sgd", "adam")),
            "train.momentum": Space(choose=(0.1, 0.9), when={"train.optimizer": "sgd"}),
            "train.seed": Space(choose=(1, 2), when={"train.optimizer": "adam", "train.momentum": 0.1}),
        },
        "'train.seed' can never be searched",
    ),
    "an option of another builder": (
        {"model.builder": BUILDERS, "model.options.width": Space(choose=(8, 16))},
        r"with model\.builder 'mlp' too, which does not take it\. Add when: \{model\.builder: residual_mlp\}",
    ),
    "a misspelt option": (
        {"model.builder": BUILDERS, "model.options.widht": Space(choose=(8,), when={"model.builder": "residual_mlp"})},
        r"'residual_mlp' has no option 'widht'\. Did you mean 'width'",
    ),
    "an option's value": (
        {
            "model.builder": BUILDERS,
            "model.options.width": Space(choose=(8, 0), when={"model.builder": "residual_mlp"}),
        },
        r"'model\.options\.width' reaches 0: .*options of 'residual_mlp'",
    ),
    "a misspelt option of scikit-learn": (
        {
            "model.builder": Space(choose=("sklearn.ensemble:RandomForestClassifier", "mlp")),
            "model.options.max_dept": Space(
                choose=(8,), when={"model.builder": "sklearn.ensemble:RandomForestClassifier"}
            ),
        },
        r"has no option 'max_dept'\. Did you mean 'max_depth'",
    ),
    "the same value twice": ({"train.seed": Space(choose=(1, 2, 1))}, "names 1 twice"),
    "a span of whole numbers between fractions": (
        {"train.batch_size": Space(low=1.5, high=8, integer=True)},
        r"goes from one to another, not from 1\.5 to 8",
    ),
}


@pytest.mark.parametrize(("space", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_with_a_space_is_told(space: Mapping[str, Space], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check(config_of(space))


def test_a_grid_must_end() -> None:
    endless = {"train.epochs": Space(low=1, high=4, integer=True), "train.learning_rate": Space(low=0.1, high=1)}
    with pytest.raises(ConfigError, match=r"sampler is 'grid', and tune\.space 'train\.learning_rate' is a span"):
        check(config_of(endless, sampler="grid"))
    check(config_of(endless))
    wide = {f"train.{key}": Space(low=1, high=2_000, integer=True) for key in ("epochs", "batch_size")}
    with pytest.raises(ConfigError, match="more than 100,000 points"):
        check(config_of(wide, sampler="grid"))


def test_a_grid_has_every_point_once_and_no_value_for_what_is_not_searched() -> None:
    space = check(
        config_of(
            {
                "train.momentum": Space(choose=(0.5, 0.9), when={"train.optimizer": "sgd"}),
                "train.optimizer": Space(choose=("adam", "sgd")),
                "train.epochs": Space(low=1, high=2, integer=True),
            },
            sampler="grid",
        )
    )
    assert grid(space) == (
        {"train.optimizer": "adam", "train.epochs": 1},
        {"train.optimizer": "adam", "train.epochs": 2},
        {"train.optimizer": "sgd", "train.momentum": 0.5, "train.epochs": 1},
        {"train.optimizer": "sgd", "train.momentum": 0.5, "train.epochs": 2},
        {"train.optimizer": "sgd", "train.momentum": 0.9, "train.epochs": 1},
        {"train.optimizer": "sgd", "train.momentum": 0.9, "train.epochs": 2},
    )


def test_columns_that_are_inferred_are_declared_for_a_study() -> None:
    key = "features.columns.hour.scale"
    config = config_of({key: Space(choose=("none", "minmax")), "features.columns.town.use": yes()}, columns={})
    check(config)
    found = declared(config, {"hour": "numeric", "town": "categorical"})
    check(found)
    assert with_values(found, {key: "minmax"}).features.columns == {
        "hour": NumericConfig(scale="minmax"),
        "town": "categorical",
    }
    with pytest.raises(ConfigError, match=r"unknown key .*Did you mean 'features\.columns\.hours\.scale'"):
        check(declared(config, {"hours": "numeric", "town": "categorical"}))
    with pytest.raises(
        ConfigError, match=r"'features\.columns\.hour\.scale' reaches 'nine', which no kind of column takes"
    ):
        check(config_of({key: Space(choose=("nine", "minmax"))}, columns={}))
    with pytest.raises(ConfigError, match=r"unknown key .*Did you mean 'features\.columns\.hour\.scale'"):
        check(config_of({"features.columns.hour.scal": yes()}, columns={}))


def test_a_space_without_settings_of_columns_leaves_the_features_to_be_inferred() -> None:
    config = config_of({"features.drop": Space(choose=((), ("a",)))}, columns={})
    assert declared(config, {"a": "numeric", "b": "numeric"}) == config
    both = config_of({"features.drop": Space(choose=((), ("a",))), "features.columns.b.use": yes()}, columns={})
    with pytest.raises(ConfigError, match=r"Declare features\.columns, or search"):
        declared(both, {"a": "numeric", "b": "numeric"})


EACH: dict[str, st.SearchStrategy[Space]] = {
    "train.learning_rate": st.builds(lambda low: Space(low=low, high=2.0, log=True), st.floats(1e-5, 1.0)),
    "train.batch_size": st.builds(lambda low: Space(low=low, high=99, integer=True), st.integers(1, 64)),
    "train.optimizer": st.just(Space(choose=("adamw", "sgd"))),
    "train.momentum": st.just(Space(low=0.0, high=0.9, when={"train.optimizer": "sgd"})),
    "model.builder": st.just(BUILDERS),
    "model.hidden": st.just(Space(choose=((8,), (8, 4)), when={"model.builder": "mlp"})),
    "model.options.dropout": st.just(Space(low=0.0, high=0.5, when={"model.builder": ["cnn", "residual_mlp"]})),
    "features.columns.hour.use": st.just(yes()),
    "features.columns.hour.scale": st.just(Space(choose=("none", "standard"))),
    "features.columns.town.name.encode": st.just(Space(choose=("index", "one_hot", "target"))),
    "features.columns.temp.kind": st.just(Space(choose=("numeric", "categorical"))),
    "features.columns.temp.max_levels": st.just(
        Space(low=2, high=9, integer=True, when={"features.columns.temp.kind": "categorical"})
    ),
    "features.drop": st.just(Space(choose=((), ("day",), ("day", "temp")))),
}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_a_checked_space_suggests_is_a_configuration(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(sorted(EACH)), min_size=1, unique=True), label="keys")
    written = {key: data.draw(EACH[key], label=key) for key in keys}
    config = config_of(written)
    if {parent for each in written.values() for parent in each.when} - written.keys():
        with pytest.raises(ConfigError, match="which is not searched itself"):
            check(config)
        return
    space = check(config)
    params: dict[str, Any] = {}
    for key in ordered(space):
        if applies(space, key, params):
            each = space[key]
            values = (
                st.sampled_from(each.choose or every_value(key, each))
                if each.choose is not None or each.integer
                else st.floats(each.low or 0.0, each.high or 1.0)
            )
            params[key] = data.draw(values, label=f"value of {key}")
            assert holds(each, params[key])
    chosen = with_values(config, settings_of(params))
    assert chosen.features.columns
    assert plain(chosen.data) == plain(config.data)
    assert plain(replace(chosen, features=config.features, model=config.model, train=config.train)) == plain(config)
