"""A finished Study as a page shows it: which trials there were, what they scored, and how its keys are called. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import yaml

from rayline.config import Config, Space
from rayline.config.values import COLUMNS, column_key
from rayline.tuning.ledger import Trial
from rayline.tuning.space.conditions import ordered, plain_value

ABSENT = "–"  # noqa: RUF001 - how a page writes that a parameter was not searched in a trial


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric, as reports have it (``valid_loss``), and which way is better."""

    name: str
    direction: Literal["min", "max"]

    @property
    def sign(self) -> int:
        """1 where less is better, else -1."""
        return 1 if self.direction == "min" else -1

    def of(self, trial: Trial) -> float | None:
        """Return the trial's value of its best epoch; None where it has no finite one."""
        value = trial.metrics.get(self.name)
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Sheet:
    """What a page is made of.

    Attributes:
        config: the base configuration.
        space: what was searched.
        objectives: the first decides which trial is the best.
        trials: by number.
        best: the winner.
        pareto: with several objectives, the trials that no other beats in all of them.
        ended_by: why no further trial started.
        notices: what the user was told on the way.
    """

    config: Config
    space: Mapping[str, Space]
    objectives: tuple[Objective, ...]
    trials: tuple[Trial, ...]
    best: Trial
    pareto: tuple[Trial, ...] = ()
    ended_by: str = ""
    notices: tuple[str, ...] = ()

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The searched keys, each after those that its condition names."""
        return ordered(self.space)

    @cached_property
    def labels(self) -> dict[str, str]:
        """A short name for each key: its last word, with the column's name before it; the whole where two are alike."""
        short = {key: _short(key, self.config) for key in self.keys}
        twins = {name for name in short.values() if list(short.values()).count(name) > 1}
        return {key: key if name in twins else name for key, name in short.items()}

    def scored(self, *objectives: Objective) -> tuple[Trial, ...]:
        """Return the trials that have a finite value of each of the objectives."""
        return tuple(trial for trial in self.trials if all(each.of(trial) is not None for each in objectives))

    def counts(self) -> dict[str, int]:
        """Return how many trials ended how, the most frequent first."""
        found: dict[str, int] = {}
        for trial in self.trials:
            found[trial.status] = found.get(trial.status, 0) + 1
        return dict(sorted(found.items(), key=lambda each: -each[1]))


def text_of(value: Any) -> str:
    """Return a value as one line of YAML; numbers with at most six digits."""
    if isinstance(value, bool) or not isinstance(value, float):
        return (
            str(yaml.safe_dump(plain_value(value), default_flow_style=True, width=10_000)).removesuffix("...\n").strip()
        )
    return f"{value:.6g}"


def params_of(trial: Trial, keys: Sequence[str]) -> list[str]:
    """Return a trial's parameters as texts, in the order of the keys."""
    return [text_of(trial.params[key]) if key in trial.params else ABSENT for key in keys]


def span_of(space: Space) -> str:
    """Return in words what is searched of one key."""
    if space.choose is not None:
        return ", ".join(text_of(each) for each in space.choose)
    kind = "whole numbers " if space.integer else ""
    return f"{kind}{text_of(space.low)} to {text_of(space.high)}{', logarithmic' if space.log else ''}"


def condition_of(space: Space) -> str:
    """Return in words when a key is searched; empty for always."""
    return " and ".join(f"{parent} = {text_of(value)}" for parent, value in space.when.items())


def value_at(config: Config, key: str) -> Any:
    """Return what a configuration has for a searched key; None where it has nothing there."""
    column = column_key(key, config.features.columns)
    if column is not None and column[0] not in config.features.columns:
        return None
    place: Any = config
    path = key.split(".")
    if column is not None:
        from rayline.config import column_config, kind_of

        name, setting = column
        place, path = column_config(config.features.columns[name]), setting.split(".")
        if setting in ("use", "kind"):
            return True if setting == "use" else kind_of(place)
    for part in path:
        place = place.get(part) if isinstance(place, Mapping) else getattr(place, part, None)
    return plain_value(place)


def _short(key: str, config: Config) -> str:
    if key.startswith(COLUMNS):
        return key.removeprefix(COLUMNS)
    return key.rpartition(".")[2] if column_key(key, config.features.columns) is None else key
