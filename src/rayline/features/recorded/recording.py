"""Record a function: call it once with stand-ins for its arrays, and keep what it does to them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import ConfigError
from rayline.features.recorded.functions import Stacked
from rayline.features.recorded.plan import Plan
from rayline.features.recorded.traced import PROBES, Node, Tape, Traced, Unrecordable

RULE = (
    "A function must treat each row by itself, element by element: no `if` on values, no reduction, sorting or loop "
    "over rows."
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded function. ``suffixes`` has one text per output, to follow the feature's name."""

    plan: Plan
    suffixes: tuple[str, ...]


def record(function: Callable[..., Any], inputs: int, place: str) -> Recorded:
    """Return what a function does to so many arrays.

    Args:
        function: takes float64 (n,) for each input, NaN where missing, and returns an array (n,), a tuple of them, a
            mapping of names to them, or an array (n, outputs).
        inputs: how many arrays it takes.
        place: names it in messages.

    Raises:
        ConfigError: it fails, or does what a plan cannot hold; the message says where, the rule and the way out.
    """
    tape = Tape(inputs)
    arrays = [Traced(tape, Node("input", place), np.roll(PROBES, place)) for place in range(inputs)]
    try:
        with np.errstate(all="ignore"):
            returned = function(*arrays)
    except Unrecordable as error:
        raise ConfigError(
            f"{place} uses {error.operation}{_where(error)}, which cannot be recorded. {RULE} {error.instead}".rstrip()
        ) from error
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{place} raises {type(error).__name__}{_where(error)} while it is recorded: {error}. It is called with "
            f"{inputs} arrays, in the order of inputs. {RULE}"
        ) from error
    nodes, suffixes = [], []
    for suffix, column in _columns(returned, place):
        if not isinstance(column, Traced):
            raise ConfigError(
                f"{place} returns {type(column).__name__} where it must return an array with a number for each row, "
                "a tuple of such arrays, or a dict of them. numpy.full_like(x, number) makes one of a number."
            )
        nodes.append(column._node)
        suffixes.append(suffix)
    if not nodes:
        raise ConfigError(f"{place} returns no array. It must return at least one.")
    return Recorded(tape.plan(nodes), tuple(suffixes))


def results_of(returned: Any, rows: int, place: str) -> list[NDArray[np.float64]]:
    """Return what the function gave for real arrays: float64 (rows,) each. Raises ``ConfigError`` for other shapes."""
    if isinstance(returned, np.ndarray) and returned.ndim == 2:
        returned = tuple(returned.T)
    found = []
    for _, column in _columns(returned, place):
        array = np.asarray(column, dtype=np.float64)
        if array.shape != (rows,):
            raise ConfigError(f"{place} gives an array of shape {array.shape} for {rows} rows. {RULE}")
        found.append(array)
    return found


def _columns(returned: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(returned, Mapping):
        return [(f".{name}", column) for name, column in returned.items()]
    if isinstance(returned, Stacked):
        returned = returned.columns
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        return [(f"[{at}]", column) for at, column in enumerate(returned)]
    return [("", returned)]


def _where(error: Exception) -> str:
    """Return the file and line of the user's code that an error came from, as far as there is one."""
    ours = Path(__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and ours not in path.parents and "numpy" not in path.parts:
            return f" ({path.name}, line {frame.lineno})"
    return ""
