"""Which members of a population go on from which, and with which parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayline.config import Space
from rayline.tuning.space.choices import as_value, same_value

QUARTER = 0.25
RESAMPLED = 0.25
FACTORS = (0.8, 1.2)


@dataclass(frozen=True, slots=True)
class Move:
    """A member that goes on from another one's checkpoint, with parameters of its own."""

    number: int
    source: int
    params: dict[str, Any]


def moves_of(
    values: Mapping[int, float],
    params: Mapping[int, Mapping[str, Any]],
    space: Mapping[str, Space],
    sign: int,
    seeds: Sequence[int],
) -> list[Move]:
    """Return who of a generation moves: each of the worst quarter to one of the best quarter (at least one each).

    Args:
        values: the last value of the metric, by member.
        params: their parameters.
        space: within which parameters stay.
        sign: 1 where less of the metric is better, -1 where more is.
        seeds: what chance depends on, beside the member.
    """
    ranked = sorted(values, key=lambda number: (sign * values[number], number))
    count = max(1, int(len(ranked) * QUARTER)) if len(ranked) > 1 else 0
    best, worst = ranked[:count], ranked[len(ranked) - count :]
    moves = []
    for number in worst:
        chance = np.random.default_rng([*seeds, number])
        source = best[int(chance.integers(len(best)))]
        changed = {key: perturbed(space[key], value, chance) for key, value in params[source].items()}
        moves.append(Move(number, source, changed))
    return moves


def perturbed(space: Space, value: Any, chance: np.random.Generator) -> Any:
    """Return a value near another one: 0.8 or 1.2 times a number, the choice beside a choice; at times any of them."""
    if chance.random() < RESAMPLED:
        return _any_of(space, chance)
    upwards = bool(chance.random() < 0.5)
    if space.choose is not None:
        places = [place for place, each in enumerate(space.choose) if same_value(each, value)]
        place = min(max(places[0] + (1 if upwards else -1), 0), len(space.choose) - 1) if places else 0
        return as_value(space.choose[place])
    assert space.low is not None
    assert space.high is not None
    near = min(max(value * FACTORS[upwards], space.low), space.high)
    if not space.integer:
        return float(near)
    whole = round(near)
    if whole == value:  # a small number that 20 % do not move
        whole += 1 if upwards else -1
    return int(min(max(whole, space.low), space.high))


def _any_of(space: Space, chance: np.random.Generator) -> Any:
    if space.choose is not None:
        return as_value(space.choose[int(chance.integers(len(space.choose)))])
    assert space.low is not None
    assert space.high is not None
    if space.integer:
        return int(chance.integers(int(space.low), int(space.high), endpoint=True))
    if space.log:
        return float(np.clip(np.exp(chance.uniform(np.log(space.low), np.log(space.high))), space.low, space.high))
    return float(chance.uniform(space.low, space.high))
