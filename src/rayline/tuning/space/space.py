"""The search space: checked against the configuration before any worker starts. Pure.

A key of ``tune.space`` is a configuration key of ``model``, ``train`` or ``features``. Beside the keys that a
configuration has, ``features.columns.NAME.use`` tells whether a feature goes in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from rayline.config import ColumnKind, Config, Space
from rayline.config.values import BUILDER, COLUMNS, USE, column_key
from rayline.errors import ConfigError
from rayline.tuning.space.conditions import (
    ancestors,
    applies,
    check_conditions,
    every_value,
    grid,
    ordered,
    plain_value,
    points,
    same,
    settings_of,
)
from rayline.tuning.space.keys import DROP, check_key, searchable
from rayline.tuning.space.reached import check_reached

__all__ = [
    "applies",
    "check",
    "declared",
    "feature_points",
    "grid",
    "ordered",
    "searchable",
    "searches_features",
    "settings_of",
]

FEATURES = "features."


def check(config: Config) -> dict[str, Space]:
    """Return the search space of a configuration, each value of which makes a valid configuration.

    Of columns that the configuration leaves to be inferred, only the names of settings can be checked; ``declared``
    makes the configuration of which all can. What is searched of a column whose ``use`` is searched too is searched
    only where it is used: the space that is returned says so.

    Raises:
        ConfigError: there is no space; a key is unknown or may not differ between trials; a condition names what is not
            searched, or goes in a circle; a value is out of range; a setting does not belong to every builder or kind
            of column that it would be searched with; the sampler is ``grid`` and the space has no end.
    """
    if config.tune is None or not config.tune.space:
        raise ConfigError(
            "section 'tune' needs a 'space' to search, for instance train.learning_rate: {low: 0.001, high: 0.1}."
        )
    builders = _builders(config, config.tune.space)
    for key, each in config.tune.space.items():
        check_key(key, config, builders)
        _check_span(key, each)
    space = _with_use(config.tune.space, config)
    check_conditions(space)
    check_reached(space, config)
    if config.tune.sampler == "grid":
        grid(space)
    return space


def searches_features(space: Mapping[str, Space]) -> bool:
    """Tell whether trials differ in their features."""
    return any(key.startswith(FEATURES) for key in space)


def declared(config: Config, kinds: Mapping[str, ColumnKind]) -> Config:
    """Return the configuration with every inferred column declared by its kind, where its settings are searched.

    Args:
        config: as written.
        kinds: the columns that were inferred, in their order.

    Raises:
        ConfigError: the space names a column that there is not; or it searches ``features.drop`` beside the settings of
            columns that are not declared.
    """
    space = config.tune.space if config.tune is not None else {}
    if config.features.columns or not any(key.startswith(COLUMNS) for key in space):
        return config
    if DROP in space:
        raise ConfigError(
            f"tune.space searches '{DROP}' and settings of columns that are not declared. Declare features.columns, or "
            f"search {COLUMNS}NAME.use in place of '{DROP}'."
        )
    return replace(config, features=replace(config.features, columns=dict(kinds), drop=()))


def feature_points(space: Mapping[str, Space]) -> tuple[dict[str, Any], ...] | None:
    """Return every combination of values that decide the features, in settings of ``features``; None where endless."""
    keys = [key for key in ordered(space) if key.startswith(FEATURES)]
    try:
        values = {
            key: every_value(key, space[key])
            for key in ordered(space)
            if key in keys or any(key in ancestors(space, each) for each in keys)
        }
    except ConfigError:
        return None
    found: dict[str, dict[str, Any]] = {}
    for point in points(space, tuple(values), values):
        chosen = {key: value for key, value in point.items() if key in keys}
        found[repr(sorted(settings_of(chosen).items()))] = chosen
    return tuple(found.values())


def _builders(config: Config, space: Mapping[str, Space]) -> tuple[str, ...]:
    searched = space.get(BUILDER)
    if searched is None or searched.choose is None:
        return (config.model.builder,)
    return tuple(str(each) for each in searched.choose)


def _check_span(key: str, space: Space) -> None:
    if space.choose is not None:
        for place, value in enumerate(space.choose):
            if any(same(value, before) for before in space.choose[:place]):
                raise ConfigError(f"tune.space '{key}' names {plain_value(value)!r} twice.")
        return
    assert space.low is not None
    assert space.high is not None
    if space.log and space.integer and space.low < 1:
        raise ConfigError(
            f"tune.space '{key}': a logarithmic span of whole numbers needs a low of 1 or more, not {space.low:g}."
        )
    if space.integer and not (float(space.low).is_integer() and float(space.high).is_integer()):
        raise ConfigError(
            f"tune.space '{key}': a span of whole numbers goes from one to another, not from {space.low:g} to "
            f"{space.high:g}."
        )
    if not math.isfinite(space.high - space.low):
        raise ConfigError(f"tune.space '{key}': a span needs finite ends, not {space.low:g} and {space.high:g}.")


def _with_use(space: Mapping[str, Space], config: Config) -> dict[str, Space]:
    """Make what is searched of a column depend on its ``use``, where that is searched."""
    found: dict[str, Space] = {}
    for key, each in space.items():
        column = column_key(key, config.features.columns)
        use = f"{COLUMNS}{column[0]}.{USE}" if column is not None else key
        needs = column is not None and column[1] != USE and use in space and use not in each.when
        found[key] = replace(each, when={**each.when, use: True}) if needs else each
    return found
