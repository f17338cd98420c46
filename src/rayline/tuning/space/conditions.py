"""Which parameters of a space are searched in which trials: what ``when`` says, and what follows from it. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from rayline.config import Space
from rayline.errors import ConfigError, shown, suggestion

LONGEST_GRID = 100_000


def plain_value(value: Any) -> Any:
    """Return a value as YAML would have it: tuples, at any depth, become lists."""
    if isinstance(value, Mapping):
        return {key: plain_value(each) for key, each in value.items()}
    return [plain_value(each) for each in value] if isinstance(value, list | tuple) else value


def settings_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's parameters as plain configuration values."""
    return {key: plain_value(value) for key, value in params.items()}


def same(one: Any, other: Any) -> bool:
    """Tell whether two values of a configuration are one: ``true`` is not 1, and a tuple is a list."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(plain_value(one) == plain_value(other))


def wanted(parent: Space, named: Any) -> tuple[Any, ...]:
    """Return the values of a parent that a condition names: one value, or a list of them.

    A list that is itself one of the parent's values means that value.
    """
    if parent.choose is not None and any(same(named, each) for each in parent.choose):
        return (named,)
    return tuple(named) if isinstance(named, list | tuple) else (named,)


def applies(space: Mapping[str, Space], key: str, params: Mapping[str, Any]) -> bool:
    """Tell whether a parameter is searched in a trial that has these values for the parameters before it."""
    return all(
        parent in params and any(same(params[parent], each) for each in wanted(space[parent], named))
        for parent, named in space[key].when.items()
    )


def ordered(space: Mapping[str, Space]) -> tuple[str, ...]:
    """Return the keys so that each comes after those that its condition names, else as they stand.

    Raises:
        ConfigError: a condition names a key that is not in the space, or conditions go round in a circle.
    """
    found: list[str] = []
    for key in space:
        _visit(space, key, (), found)
    return tuple(found)


def ancestors(space: Mapping[str, Space], key: str) -> tuple[str, ...]:
    """Return the keys that decide whether a parameter is searched, each after those that decide on it."""
    above: set[str] = set()
    waiting = [key]
    while waiting:
        fresh = [parent for parent in space[waiting.pop()].when if parent not in above]
        above.update(fresh)
        waiting += fresh
    return tuple(each for each in ordered(space) if each in above)


def check_conditions(space: Mapping[str, Space]) -> None:
    """Check every ``when`` of a space.

    Raises:
        ConfigError: as ``ordered``; or a condition names a span of real numbers, or a value that is not the parent's;
            or no trial can meet it.
    """
    ordered(space)
    for key, each in space.items():
        for parent, named in each.when.items():
            _check_values(key, parent, space[parent], named)
    for key in space:
        if not any(applies(space, key, point) for point in points(space, ancestors(space, key), mentioned(space))):
            raise ConfigError(
                f"tune.space '{key}' can never be searched: no trial meets its 'when' {_words(space, key)}."
            )


def mentioned(space: Mapping[str, Space]) -> dict[str, tuple[Any, ...]]:
    """Return, for every key, values that stand for all: of a span of whole numbers its ends and those conditions name.

    A span of real numbers has none that a condition could name, and so its lower end stands for it.
    """
    named: dict[str, list[Any]] = {key: [] for key in space}
    for each in space.values():
        for parent, value in each.when.items():
            named[parent] += wanted(space[parent], value)
    return {key: _standing(each, named[key]) for key, each in space.items()}


def points(
    space: Mapping[str, Space], keys: tuple[str, ...], values: Mapping[str, tuple[Any, ...]]
) -> Iterator[dict[str, Any]]:
    """Yield every combination of the given values that the conditions allow, once; a key left out has no value.

    Args:
        space: the whole space.
        keys: whose values, each after those that its condition names.
        values: the values of each.
    """
    if not keys:
        yield {}
        return
    *before, last = keys
    for point in points(space, tuple(before), values):
        if not applies(space, last, point):
            yield point
            continue
        for value in values[last]:
            yield {**point, last: value}


def grid(space: Mapping[str, Space]) -> tuple[dict[str, Any], ...]:
    """Return every point of a finite space, the last key's values changing fastest.

    Raises:
        ConfigError: the space is not finite, or too large to be listed.
    """
    values = {key: every_value(key, each) for key, each in space.items()}
    found = tuple(itertools.islice(points(space, ordered(space), values), LONGEST_GRID + 1))
    if len(found) > LONGEST_GRID:
        raise ConfigError(f"the grid of tune.space has more than {LONGEST_GRID:,} points. Search fewer values.")
    return found


def every_value(key: str, space: Space) -> tuple[Any, ...]:
    """Return all values of one parameter. Raises ``ConfigError`` for a span of real numbers."""
    if space.choose is not None:
        return space.choose
    assert space.low is not None
    assert space.high is not None
    if not space.integer:
        raise ConfigError(
            f"tune.sampler is 'grid', and tune.space '{key}' is a span of real numbers, which has no end. "
            "Give it as choose: [...], or take another sampler."
        )
    return tuple(range(int(space.low), int(space.high) + 1))


def holds(space: Space, value: Any) -> bool:
    """Tell whether a value is one of a parameter's."""
    if space.choose is not None:
        return any(same(value, each) for each in space.choose)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    assert space.low is not None
    assert space.high is not None
    whole = not space.integer or float(value).is_integer()
    return whole and space.low <= value <= space.high


def _visit(space: Mapping[str, Space], key: str, path: tuple[str, ...], found: list[str]) -> None:
    if key in path:
        circle = " needs ".join(f"'{each}'" for each in (*path[path.index(key) :], key))
        raise ConfigError(f"tune.space goes round in a circle: {circle}. Take one of their 'when' away.")
    if key in found:
        return
    for parent in space[key].when:
        if parent not in space:
            raise ConfigError(
                f"tune.space '{key}' has when: {parent}, which is not searched itself. {suggestion(parent, space)}"
            )
        _visit(space, parent, (*path, key), found)
    found.append(key)


def _check_values(key: str, parent: str, space: Space, named: Any) -> None:
    if space.choose is None and not space.integer:
        raise ConfigError(
            f"tune.space '{key}' has when: {parent}, which is a span of real numbers: no trial has just one value of "
            "it. Give it as choose: [...]."
        )
    values = wanted(space, named)
    if not values:
        raise ConfigError(f"tune.space '{key}' has when: {parent} with no value.")
    for value in values:
        if not holds(space, value):
            known = [str(each) for each in space.choose] if space.choose is not None else []
            span = "" if known else f"It goes from {space.low:g} to {space.high:g}."
            raise ConfigError(
                f"tune.space '{key}' has when: {parent}: {shown(value)}, which is not among its values. "
                f"{span or suggestion(str(value), known)}"
            )


def _standing(space: Space, named: list[Any]) -> tuple[Any, ...]:
    if space.choose is not None:
        return space.choose
    assert space.low is not None
    assert space.high is not None
    if not space.integer:
        return (space.low,)
    return tuple(sorted({int(space.low), int(space.high), *(int(each) for each in named)}))


def _words(space: Mapping[str, Space], key: str) -> str:
    return "{" + ", ".join(f"{parent}: {value}" for parent, value in space[key].when.items()) + "}"
