"""The operations that a plan may hold: each takes rows one by one, over arrays and over single numbers.

Operations that IEEE 754 defines to the last bit have a form in plain Python, which is faster for one number. The others
(logarithms, powers, sines) call NumPy for one number too, since the C library's may differ in the last bit.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Number = float | bool
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a plan.

    Attributes:
        many: over float64 or boolean arrays.
        one: over single numbers and booleans.
        calm: ``one`` gives no NumPy warning for any number.
        arity: how many numbers it takes.
    """

    many: Callable[..., Array]
    one: Callable[..., Number]
    calm: bool
    arity: int


EXACT: dict[str, Callable[..., Number]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "negative": operator.neg,
    "positive": operator.pos,
    "absolute": abs,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "logical_and": lambda a, b: bool(a) and bool(b),
    "logical_or": lambda a, b: bool(a) or bool(b),
    "logical_xor": lambda a, b: bool(a) is not bool(b),
    "logical_not": operator.not_,
    "isnan": lambda a: a != a,
    "isfinite": math.isfinite,
    "isinf": math.isinf,
    "square": lambda a: a * a,
    "sqrt": lambda a: math.sqrt(a) if a >= 0 else math.nan,
}

INEXACT = (
    *("arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cbrt", "ceil", "copysign", "cos"),
    *("cosh", "deg2rad", "degrees", "exp", "exp2", "expm1", "floor", "floor_divide", "fmod", "heaviside", "hypot"),
    *("log", "log10", "log1p", "log2", "logaddexp", "rad2deg", "radians", "reciprocal", "remainder", "rint"),
    *("sign", "signbit", "sin", "sinh", "tan", "tanh", "trunc"),
)


def _divide(one: Number, other: Number) -> float:
    try:
        return one / other
    except ZeroDivisionError:
        if one != one or not one:
            return math.nan
        return math.copysign(math.inf, one) * math.copysign(1.0, other)


def _larger(one: Number, other: Number) -> Number:
    if one != one or other != other:
        return math.nan
    return (one if one > other else other) + 0.0  # one zero, whichever came first


def _smaller(one: Number, other: Number) -> Number:
    if one != one or other != other:
        return math.nan
    return (one if one < other else other) + 0.0


def _but_nan(choose: Callable[[Number, Number], Number]) -> Callable[[Number, Number], Number]:
    def chosen(one: Number, other: Number) -> Number:
        if one != one:
            return other + 0.0
        return one + 0.0 if other != other else choose(one, other)

    return chosen


def _through_numpy(function: Callable[..., Any]) -> Callable[..., Number]:
    def one(*values: Any) -> Number:
        result: Number = function(*values).item()
        return result

    return one


def _bins(values: Array, edges: Array) -> Array:
    """Return for each number how many of the ascending edges are not above it: all of them for NaN."""
    return np.searchsorted(edges, values, side="right").astype(np.float64)


def _interp(values: Array, places: Array, heights: Array) -> Array:
    result: Array = np.interp(values, places, heights)
    return result


def _power(base: Array, exponent: Array) -> Array:
    """Return ``numpy.power`` of two arrays, not shorter than two rows: of one, NumPy takes a short way for squares."""
    if np.size(exponent) == 1 and np.ndim(exponent):
        shorter: Array = np.power(np.repeat(base, 2), np.repeat(exponent, 2))[:1]
        return shorter
    result: Array = np.power(base, exponent)
    return result


def _one_power(base: Number, exponent: Number) -> Number:
    result: Number = np.power(base, np.array([exponent, exponent], dtype=np.float64))[0].item()
    return result


def _operations() -> dict[str, Operation]:
    found = {}
    for name in (*EXACT, *INEXACT):
        function = getattr(np, name)
        one = EXACT.get(name) or _through_numpy(function)
        found[name] = Operation(function, one, name in EXACT, function.nin)
    return found | {
        "power": Operation(_power, _one_power, False, 2),
        "divide": Operation(np.divide, _divide, True, 2),
        "maximum": Operation(lambda a, b: np.maximum(a, b) + 0.0, _larger, True, 2),
        "minimum": Operation(lambda a, b: np.minimum(a, b) + 0.0, _smaller, True, 2),
        "fmax": Operation(lambda a, b: np.fmax(a, b) + 0.0, _but_nan(_larger), True, 2),
        "fmin": Operation(lambda a, b: np.fmin(a, b) + 0.0, _but_nan(_smaller), True, 2),
        "where": Operation(np.where, lambda chosen, one, other: one if chosen else other, True, 3),
        "float": Operation(lambda a: np.asarray(a, dtype=np.float64), float, True, 1),
        "truth": Operation(lambda a: np.asarray(a, dtype=np.bool_), bool, True, 1),
        "interp": Operation(_interp, _through_numpy(_interp), False, 3),
        "bins": Operation(_bins, _through_numpy(_bins), False, 2),
    }


OPERATIONS = _operations()
UFUNCS: dict[Any, str] = {
    getattr(np, name): name for name in OPERATIONS if isinstance(getattr(np, name, None), np.ufunc)
}
"""The operations that are NumPy's own functions, by the function."""
