"""The stand-in for an array that writes down what is done to it.

It carries a few probe rows through every operation, so that NumPy itself decides types and shapes. What does not take
each row by itself, or is not on the list, is refused where it happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from rayline.features.recorded.operations import OPERATIONS, UFUNCS
from rayline.features.recorded.plan import Constant, Plan, Step

PROBES = np.array([np.nan, 0.0, 1.0, -2.5, 1e6, 0.5, -1e-3])
KINDS = (np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_))
ON_TRUTHS = {"add": "logical_or", "multiply": "logical_and", "maximum": "logical_or", "minimum": "logical_and"}
BITWISE = {
    np.bitwise_and: "logical_and",
    np.bitwise_or: "logical_or",
    np.bitwise_xor: "logical_xor",
    np.invert: "logical_not",
}
WHOLE = ("floor_divide", "remainder", "fmod", "power", "reciprocal")  # whole numbers go other ways here than floats do
FEWEST_DIGITS = 2**53  # a double holds every whole number below it


class Unrecordable(Exception):
    """An operation that a plan cannot hold, and what to write instead."""

    def __init__(self, operation: str, instead: str = "") -> None:
        self.operation = operation
        self.instead = instead
        super().__init__(operation)


@dataclass(slots=True)
class Tape:
    """What has been written down so far. Equal operations on equal registers are one."""

    inputs: int
    constants: list[Constant] = field(default_factory=list)
    steps: list[tuple[str, tuple[Node, ...]]] = field(default_factory=list)
    known: dict[Any, Node] = field(default_factory=dict)

    def constant(self, value: Constant) -> Node:
        """Return the register of a constant."""
        key = ("constant", type(value).__name__, repr(value))
        if key not in self.known:
            self.known[key] = Node("constant", len(self.constants))
            self.constants.append(value)
        return self.known[key]

    def step(self, name: str, *operands: Node) -> Node:
        """Return the register of an operation's result."""
        key = (name, operands)
        if key not in self.known:
            self.known[key] = Node("step", len(self.steps))
            self.steps.append((name, operands))
        return self.known[key]

    def plan(self, outputs: list[Node]) -> Plan:
        """Return the plan that gives some registers, without what they do not need."""
        needed: set[Node] = set()
        waiting = list(outputs)
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting += self.steps[node.place][1] if node.sort == "step" else ()
        constants = [place for place in range(len(self.constants)) if Node("constant", place) in needed]
        steps = [place for place in range(len(self.steps)) if Node("step", place) in needed]
        place_of = {Node("input", place): place for place in range(self.inputs)}
        place_of |= {Node("constant", place): self.inputs + at for at, place in enumerate(constants)}
        first = self.inputs + len(constants)
        place_of |= {Node("step", place): first + at for at, place in enumerate(steps)}
        kept: list[Step] = [
            (self.steps[place][0], tuple(place_of[each] for each in self.steps[place][1])) for place in steps
        ]
        chosen = tuple(self.constants[place] for place in constants)
        return Plan(self.inputs, chosen, tuple(kept), tuple(place_of[each] for each in outputs))


@dataclass(frozen=True, slots=True)
class Node:
    """A register: ``sort`` is ``input``, ``constant`` or ``step``, ``place`` its number among these."""

    sort: str
    place: int


class Traced(NDArrayOperatorsMixin):
    """A stand-in for float64, int64 or boolean (n,)."""

    def __init__(self, tape: Tape, node: Node, probe: Any) -> None:
        self._tape = tape
        self._node = node
        self._probe = probe

    dtype = property(lambda self: self._probe.dtype)
    ndim = 1

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **more: Any) -> Any:
        name = f"numpy.{ufunc.__name__}"
        if method != "__call__":
            raise Unrecordable(f"{name}.{method}", "Combine the inputs of one row instead.")
        if more:
            raise Unrecordable(f"{name}({', '.join(more)}=...)", "Leave that argument out.")
        result = apply(self._tape, ufunc, *inputs)
        if out is None:
            return result
        if not isinstance(out[0], Traced) or out[0].dtype != result.dtype:
            raise Unrecordable(f"{name}(out=...)", "Assign the result to a new name.")
        return out[0]._become(result)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from rayline.features.recorded.functions import FUNCTIONS

        if function not in FUNCTIONS:
            raise Unrecordable(f"numpy.{function.__name__}", "What is known takes each row by itself.")
        return FUNCTIONS[function](*args, **kwargs)

    def __pow__(self, power: Any) -> Any:
        """Take the same short ways as ``ndarray.__pow__``, which give other last bits than ``numpy.power``."""
        short: dict[float, Callable[..., Any]] = {2: np.square, 1: np.positive, 0.5: np.sqrt, -1: np.reciprocal}
        if isinstance(power, (int, float)) and self.dtype == np.float64 and power in short:
            return short[power](self)
        return np.power(self, power)

    def __setitem__(self, rows: Any, value: Any) -> None:
        if not isinstance(rows, Traced) or rows.dtype != np.bool_ or (isinstance(value, Traced)):
            raise Unrecordable("x[...] = ...", "x[mask] = number works; for arrays use numpy.where(mask, values, x).")
        result: Any = np.where(rows, value, self)
        if result.dtype != self.dtype:
            raise Unrecordable("x[mask] = number of another type", "Use numpy.where(mask, number, x).")
        self._become(result)

    def astype(self, dtype: Any, **more: Any) -> Traced:
        """Return float64 of any, or int64 of booleans."""
        wanted = np.dtype(dtype)
        if wanted == self.dtype:
            return self.copy()
        if wanted == np.float64 or (wanted == np.int64 and self.dtype == np.bool_):
            return Traced(self._tape, self._tape.step("float", self._node), self._probe.astype(wanted))
        if wanted == np.bool_:
            return Traced(self._tape, self._tape.step("truth", self._node), self._probe.astype(wanted))
        instead = "Use numpy.trunc or numpy.floor, which keep missing values." if wanted.kind in "iu" else ""
        raise Unrecordable(f"x.astype({wanted})", instead or "Numbers are float64 throughout.")

    def copy(self, *order: Any, **more: Any) -> Traced:
        """Return one that later assignments do not change."""
        return Traced(self._tape, self._node, self._probe)

    def clip(self, *bounds: Any, **more: Any) -> Any:
        """Return it between two bounds."""
        return np.clip(self, *bounds, **more)

    def round(self, decimals: int = 0) -> Any:
        """Return it rounded."""
        return np.round(self, decimals)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(np.ndarray, name):
            raise AttributeError(f"an array has no attribute '{name}'")
        raise Unrecordable(f"x.{name}", "How many rows there are, and what they hold together, is not known.")

    def __bool__(self) -> NoReturn:
        raise Unrecordable(
            "`if`, `and`, `or`, `not`, min() or max() on an array",
            "Use numpy.where(condition, this, that), `&` and `|`, numpy.minimum and numpy.maximum.",
        )

    def __len__(self) -> NoReturn:
        raise Unrecordable("len(x)", "How many rows there are is not known; numpy.zeros_like(x) gives zeros.")

    def __iter__(self) -> NoReturn:
        raise Unrecordable("a loop over rows", "Write it for whole arrays: an operator takes every row at once.")

    def __getitem__(self, rows: Any) -> NoReturn:
        raise Unrecordable("x[...]", "Use numpy.where(mask, this, that): every row has a result.")

    def __float__(self) -> NoReturn:
        raise Unrecordable("float(x) or a function of module math", "Use NumPy's function of that name.")

    __int__ = __index__ = __complex__ = __float__

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise Unrecordable("numpy.array(x) or numpy.asarray(x)", "The inputs are arrays already.")

    def _become(self, other: Traced) -> Traced:
        self._node, self._probe = other._node, other._probe
        return self


def apply(tape: Tape, ufunc: Any, *inputs: Any) -> Traced:
    """Write down one of NumPy's element-wise functions. Raises ``Unrecordable``."""
    name = BITWISE.get(ufunc) or UFUNCS.get(ufunc)
    if name is None:
        raise Unrecordable(f"numpy.{ufunc.__name__}", "It is not among the operations that can be kept.")
    with np.errstate(all="ignore"):
        probe = ufunc(*(probe_of(each) for each in inputs))
    if ufunc in BITWISE and probe.dtype != np.bool_:
        raise Unrecordable(f"numpy.{ufunc.__name__} of whole numbers", "It takes conditions, such as x > 0.")
    if name in WHOLE and probe.dtype == np.int64 and not _divides(inputs[-1]):
        raise Unrecordable(f"numpy.{ufunc.__name__} of whole numbers", "Make one a float with .astype(float).")
    if name == "power" and not isinstance(inputs[1], Traced) and inputs[1] == 2:
        name, inputs = "square", inputs[:1]  # as NumPy's own loop does
    if probe.dtype == np.bool_:
        name = ON_TRUTHS.get(name, name)
    return written(tape, name, probe, *inputs)


def written(tape: Tape, name: str, probe: Any, *inputs: Any) -> Traced:
    """Write down an operation whose result on the probe rows is known. Raises ``Unrecordable``."""
    assert name in OPERATIONS
    if probe.shape != PROBES.shape:
        raise Unrecordable(f"numpy.{name} with an array of your own", "Constants are single numbers.")
    if probe.dtype not in KINDS:
        raise Unrecordable(f"numpy.{name} that gives {probe.dtype}", "Numbers are float64 throughout.")
    return Traced(tape, tape.step(name, *(node_of(tape, each) for each in inputs)), probe)


def node_of(tape: Tape, value: Any) -> Node:
    """Return the register of an array's stand-in, or of a constant."""
    if isinstance(value, Traced):
        return value._node
    if isinstance(value, tuple):
        return tape.constant(value)
    single = np.asarray(value)
    if single.ndim or single.dtype.kind not in "biuf":
        raise Unrecordable(f"a constant of type {type(value).__name__}", "Constants are single numbers.")
    if single.dtype.kind in "iu" and abs(int(single)) > FEWEST_DIGITS:
        raise Unrecordable(f"the whole number {int(single)}", "Write it as a float.")
    return tape.constant(bool(single) if single.dtype.kind == "b" else float(single))


def probe_of(value: Any) -> Any:
    """Return the probe rows of a stand-in; anything else as it is."""
    return value._probe if isinstance(value, Traced) else value


def _divides(value: Any) -> bool:
    return not isinstance(value, Traced) and bool(value > 0)
