"""Which version answers a request: a pure choice, the same in every replica and after every restart.

Sticky keys use weighted rendezvous hashing: each version draws a number from the key alone, scaled by its weight, and
the largest wins. Raising one version's weight can only move keys to it, and moves no more than the weight demands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from hashlib import blake2b
from random import random

_BITS = 52  # with the half added below, every draw is exact in a float and strictly below 1


def choose(key: str, weights: Mapping[int, int]) -> int:
    """Return the version that a sticky key belongs to.

    Args:
        key: the session.
        weights: version number to its share, at least one above 0; a version with 0 is never chosen.

    Raises:
        ValueError: no version has weight.
    """
    best, best_score = None, -1.0
    for number, weight in weights.items():
        if weight <= 0:
            continue
        score = -weight / math.log(drawn(key, number))
        if score > best_score or (score == best_score and best is not None and number < best):
            best, best_score = number, score
    if best is None:
        raise ValueError(f"no version has weight: {dict(weights)}")
    return best


def chooser(weights: Mapping[int, int], draw: Callable[[], float] = random) -> Callable[[], int]:
    """Return a function that picks a version for a request without a session, by weight.

    Args:
        weights: version number to its share, at least one above 0.
        draw: gives a number from 0 up to 1.

    Raises:
        ValueError: no version has weight.
    """
    shares = [(number, weight) for number, weight in weights.items() if weight > 0]
    if not shares:
        raise ValueError(f"no version has weight: {dict(weights)}")
    last = shares[-1][0]
    if len(shares) == 1:
        return lambda: last
    total = sum(weight for _, weight in shares)
    reach, bounds = 0, []
    for number, weight in shares:
        reach += weight
        bounds.append((reach / total, number))

    def pick() -> int:
        point = draw()
        for bound, number in bounds:
            if point < bound:
                return number
        return last

    return pick


def drawn(key: str, number: int) -> float:
    """Return a number strictly between 0 and 1 that depends on the key and the version alone."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, salt=number.to_bytes(8, "big")).digest()
    return ((int.from_bytes(digest, "big") >> (64 - _BITS)) + 0.5) / (1 << _BITS)
