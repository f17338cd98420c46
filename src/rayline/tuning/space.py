"""The search space: checked against the configuration before any worker starts. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_type_hints

from rayline.config import Config, ModelConfig, Space, TrainConfig, with_values
from rayline.errors import ConfigError, suggestion
from rayline.model import READY_MADE

SECTIONS = {"model": ModelConfig, "train": TrainConfig}
FIXED = {"train.metric", "train.num_workers", "train.use_gpu"}


def check(config: Config) -> dict[str, Space]:
    """Return the search space of a configuration, each value of which makes a valid configuration.

    Raises:
        ConfigError: there is no space, a key is unknown or may not differ between trials, or a value is out of range.
    """
    if config.tune is None or not config.tune.space:
        raise ConfigError(
            "section 'tune' needs a 'space' to search, for instance train.learning_rate: {low: 0.001, high: 0.1}."
        )
    for key, space in config.tune.space.items():
        _check_key(key)
        if key.startswith("model.options.") and config.model.builder in READY_MADE:
            raise ConfigError(
                f"tune.space cannot search '{key}': model.options are for a builder of your own, and model.builder is "
                f"'{config.model.builder}'."
            )
        if space.log and space.integer and space.low is not None and space.low < 1:
            raise ConfigError(
                f"tune.space '{key}': a logarithmic span of whole numbers needs a low of 1 or more, not {space.low:g}."
            )
        for value in _corners(space):
            try:
                with_values(config, {key: value})
            except ConfigError as error:
                raise ConfigError(f"tune.space '{key}' reaches {value!r}: {error}") from error
    return dict(config.tune.space)


def searchable() -> tuple[str, ...]:
    """Return the keys that a space may name; ``model.options.*`` comes on top of them."""
    keys = (f"{name}.{field}" for name, section in SECTIONS.items() for field in get_type_hints(section))
    return tuple(key for key in keys if key not in FIXED and key != "model.options")


def settings_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's parameters as plain configuration values."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in params.items()}


def _check_key(key: str) -> None:
    known = searchable()
    if key in FIXED:
        raise ConfigError(f"tune.space cannot search '{key}': trials must agree on it to be compared.")
    if key not in known and not key.startswith("model.options."):
        raise ConfigError(f"tune.space names the unknown key '{key}'. {suggestion(key, known)}")


def _corners(space: Space) -> list[Any]:
    if space.choose is not None:
        return list(space.choose)
    assert space.low is not None
    assert space.high is not None
    if space.integer:
        return [int(space.low), int(space.high)]
    inside = space.low + (space.high - space.low) / math.pi  # no whole number: 1.0 and 64.0 would pass for such
    return [space.low, space.high, inside]
