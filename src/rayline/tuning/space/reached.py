"""What a space reaches: every value, with whatever decides on it, must make a valid configuration. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rayline.config import CONFIG_OF, Config, Space, column_config, kind_of, typed, with_values
from rayline.config.values import BUILDER, COLUMNS, USE, column_key
from rayline.errors import ConfigError, suggestion
from rayline.features.schemas.inference import feature_inputs
from rayline.tuning.space.conditions import ancestors, applies, mentioned, ordered, plain_value, points, settings_of
from rayline.tuning.space.keys import DROP, KIND, builders_for, settings_of_kind

STAND_INS: Mapping[str, Mapping[str, Any]] = {
    "function": {"function": "x", "inputs": ["x"]},
    "sklearn": {"transformer": "x", "inputs": ["x"]},
}
"""What a section of a kind needs beside the setting that is tried."""


def check_reached(space: Mapping[str, Space], config: Config) -> None:
    """Check what trials of a space would be. Raises ``ConfigError``: it names the key, the value and the rule."""
    for key in space:
        _check_builders(key, space, config)
        _check_kinds(key, space, config)
        _check_values(key, space, config)
    _check_features(space, config)


def _contexts(key: str, deciding: str, space: Mapping[str, Space]) -> Iterator[dict[str, Any]]:
    """Yield every point of what decides on a key in which it is searched; ``deciding`` is looked at besides."""
    above = {*ancestors(space, key), *({deciding} & space.keys())}
    above |= {each for one in above for each in ancestors(space, one)}
    keys = tuple(each for each in ordered(space) if each in above)
    for point in points(space, keys, mentioned(space)):
        if applies(space, key, point):
            yield point


def _check_builders(key: str, space: Mapping[str, Space], config: Config) -> None:
    """Check that a setting of one builder is searched with that builder alone."""
    reached = dict.fromkeys(point.get(BUILDER, config.model.builder) for point in _contexts(key, BUILDER, space))
    fitting = builders_for(key, reached)
    if fitting is None or set(fitting) == reached.keys():
        return
    other = next(each for each in reached if each not in fitting)
    if not fitting:
        raise ConfigError(
            f"tune.space cannot search '{key}': it is for model.builder 'mlp', and model.builder is '{other}'. Other "
            "builders take model.options."
        )
    raise ConfigError(
        f"tune.space searches '{key}' with model.builder '{other}' too, which does not take it. Add "
        f"when: {{{BUILDER}: {fitting[0] if len(fitting) == 1 else list(fitting)}}}."
    )


def _check_kinds(key: str, space: Mapping[str, Space], config: Config) -> None:
    """Check that a setting of a column is searched where the column is of a kind that has it."""
    column = column_key(key, config.features.columns)
    if column is None or column[0] not in config.features.columns:
        return
    name, setting = column
    kind_key, base = f"{COLUMNS}{name}.{KIND}", kind_of(column_config(config.features.columns[name]))
    kinds = dict.fromkeys(point.get(kind_key, base) for point in _contexts(key, kind_key, space))
    first = setting.partition(".")[0]
    for kind in kinds:
        if kind in CONFIG_OF and first not in settings_of_kind(kind):
            having = [each for each in CONFIG_OF if first in settings_of_kind(each)]
            rest = f"Add when: {{{kind_key}: {having[0]}}}." if kind_key in space else f"Only {', '.join(having)} has."
            raise ConfigError(f"tune.space searches '{key}', and a {kind} column has no '{first}'. {rest}")


def _check_values(key: str, space: Mapping[str, Space], config: Config) -> None:
    """Check that every value makes a valid configuration, whatever the values are that decide on it."""
    column = column_key(key, config.features.columns)
    if column is not None and column[0] not in config.features.columns:
        _check_inferred(key, column[1], space[key])
        return
    deciding = BUILDER if column is None else f"{COLUMNS}{column[0]}.{KIND}"
    others = _columns_not_declared(space, config)
    for point in _contexts(key, deciding, space):
        known = {each: value for each, value in point.items() if each not in others}
        for value in _corners(space[key]):
            _try(config, key, {**known, key: value}, value)


def _check_inferred(key: str, setting: str, space: Space) -> None:
    """Check the values of a setting of a column whose kind is not known yet: some kind of column must take each."""
    if setting == USE:
        for value in _corners(space):
            if not isinstance(value, bool):
                raise ConfigError(f"tune.space '{key}' reaches {value!r}: it is true or false.")
        return
    if setting == KIND:
        return  # checked with the column's declaration
    for value in _corners(space):
        having = [kind for kind in CONFIG_OF if setting.partition(".")[0] in settings_of_kind(kind)]
        if not any(_is_valid(kind, setting, value) for kind in having):
            raise ConfigError(f"tune.space '{key}' reaches {plain_value(value)!r}, which no kind of column takes.")


def _is_valid(kind: str, setting: str, value: Any) -> bool:
    first, dot, rest = setting.partition(".")
    section = {**STAND_INS.get(kind, {}), first: {rest: value} if dot else plain_value(value)}
    try:
        typed({"kind": kind, **section}, CONFIG_OF[kind], "column")
    except ConfigError:
        return False
    return True


def _try(config: Config, key: str, values: Mapping[str, Any], value: Any) -> None:
    try:
        with_values(config, settings_of(values))
    except ConfigError as error:
        raise ConfigError(f"tune.space '{key}' reaches {value!r}: {error}") from error


def _columns_not_declared(space: Mapping[str, Space], config: Config) -> set[str]:
    columns = config.features.columns
    found = ((key, column_key(key, columns)) for key in space)
    return {key for key, column in found if column is not None and column[0] not in columns}


def _check_features(space: Mapping[str, Space], config: Config) -> None:
    """Check that at least one feature goes in, whatever is left out, and that none looks at a column that is not."""
    columns = {name: column_config(each) for name, each in config.features.columns.items()}
    if not columns:
        return
    switched = {name for name in columns if f"{COLUMNS}{name}.{USE}" in space}
    drops = space[DROP].choose if DROP in space else (config.features.drop,)
    known = {*columns, *(each for name, setting in columns.items() for each in feature_inputs(name, setting))}
    for drop in drops or ():
        for name in drop if DROP in space else ():
            if name not in known:
                raise ConfigError(f"tune.space '{DROP}' reaches {list(drop)}: '{name}'? {suggestion(str(name), known)}")
        left = [name for name in columns if name not in drop]
        if not set(left) - switched:
            what = f"with {DROP} {list(drop)} " if drop else ""
            raise ConfigError(
                f"tune.space reaches a trial without any feature: {what}every column has a 'use'. Leave at least one "
                "without."
            )
        for name in left:
            missing = [each for each in feature_inputs(name, columns[name]) if each in drop]
            if missing:
                raise ConfigError(
                    f"tune.space '{DROP}' reaches {list(drop)}: features.columns.{name} looks at '{missing[0]}'. Drop "
                    f"'{name}' too."
                )


def _corners(space: Space) -> list[Any]:
    if space.choose is not None:
        return list(space.choose)
    assert space.low is not None
    assert space.high is not None
    if space.integer:
        return [int(space.low), int(space.high)]
    inside = space.low + (space.high - space.low) / math.pi  # no whole number: 1.0 and 64.0 would pass for such
    return [space.low, space.high, inside]
