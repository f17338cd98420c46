"""A plan: operations in their order over numbered registers. As JSON, over arrays and over one row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import SchemaError, suggestion
from rayline.features.recorded.operations import OPERATIONS, Number

Doubles = NDArray[np.float64]
Constant = float | bool | tuple[float, ...]
Step = tuple[str, tuple[int, ...]]

ROWS = 8_192  # at a time: every register lies in the processor's cache
_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}  # JSON has no such numbers


@dataclass(frozen=True, slots=True)
class Plan:
    """What a function does to its arrays.

    The registers are the inputs, then the constants, then the result of each step. Only operations of ``OPERATIONS``
    occur, all of which look at one row at a time.

    Attributes:
        inputs: how many arrays go in.
        constants: numbers, booleans, or the tables that ``interp`` and ``bins`` take.
        steps: an operation and the registers that it takes, each below its own.
        outputs: registers.
    """

    inputs: int
    constants: tuple[Constant, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def many(self, arrays: Sequence[Doubles]) -> list[Doubles]:
        """Return the outputs for many rows: float64 (n,) each, from float64 (n,) for each input."""
        rows = len(arrays[0])
        outputs = [np.empty(rows) for _ in self.outputs]
        constants = [np.asarray(each) for each in self.constants]
        with np.errstate(all="ignore"):
            for start in range(0, rows, ROWS):
                registers: list[Any] = [*(array[start : start + ROWS] for array in arrays), *constants]
                for name, operands in self.steps:
                    registers.append(OPERATIONS[name].many(*[registers[place] for place in operands]))
                for output, place in zip(outputs, self.outputs, strict=True):
                    output[start : start + ROWS] = registers[place]
        return outputs

    def one(self) -> Callable[[Sequence[float]], list[float]]:
        """Return a closure that gives the outputs for one row's inputs, the same numbers as ``many``."""
        constants = tuple(np.asarray(each) if isinstance(each, tuple) else each for each in self.constants)
        outputs = self.outputs
        program = tuple((OPERATIONS[name].one, len(operands), _three(operands)) for name, operands in self.steps)

        def run(values: Sequence[float]) -> list[float]:
            registers: list[Any] = [*values, *constants]
            append = registers.append
            for operation, arity, (first, second, third) in program:
                if arity == 2:
                    append(operation(registers[first], registers[second]))
                elif arity == 1:
                    append(operation(registers[first]))
                else:
                    append(operation(registers[first], registers[second], registers[third]))
            return [float(registers[place]) for place in outputs]

        if all(OPERATIONS[name].calm for name, _ in self.steps):
            return run

        def run_quietly(values: Sequence[float]) -> list[float]:
            with np.errstate(all="ignore"):
                return run(values)

        return run_quietly

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "inputs": self.inputs,
            "constants": [_constant_json(each) for each in self.constants],
            "steps": [[name, *operands] for name, operands in self.steps],
            "outputs": list(self.outputs),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Plan:
        """Return the plan of ``to_json``'s values.

        Raises:
            SchemaError: an operation is unknown, or takes what is not there yet.
        """
        constants = tuple(_constant(each) for each in raw["constants"])
        steps: list[Step] = []
        known = raw["inputs"] + len(constants)
        for name, *operands in raw["steps"]:
            if name not in OPERATIONS:
                raise SchemaError(f"the recorded operation '{name}' is unknown. {suggestion(name, OPERATIONS)}")
            _check_places(operands, known, name)
            if len(operands) != OPERATIONS[name].arity:
                raise SchemaError(f"the recorded plan is damaged: '{name}' takes {len(operands)} numbers.")
            steps.append((name, tuple(operands)))
            known += 1
        _check_places(raw["outputs"], known, "outputs")
        return cls(raw["inputs"], constants, tuple(steps), tuple(raw["outputs"]))


def _check_places(places: Sequence[Any], known: int, name: str) -> None:
    if not places or not all(isinstance(each, int) and 0 <= each < known for each in places):
        raise SchemaError(f"the recorded plan is damaged: '{name}' takes {list(places)!r} of {known} numbers.")


def _three(operands: tuple[int, ...]) -> tuple[int, int, int]:
    first, second, third = (*operands, 0, 0)[:3]
    return first, second, third


def _constant_json(constant: Constant) -> Any:
    if isinstance(constant, tuple):
        return [_constant_json(each) for each in constant]
    if isinstance(constant, bool) or math.isfinite(constant):
        return constant
    return "nan" if math.isnan(constant) else "inf" if constant > 0 else "-inf"


def _constant(raw: Any) -> Constant:
    if isinstance(raw, list):
        return tuple(_WORDS[each] if isinstance(each, str) else float(each) for each in raw)
    return _WORDS[raw] if isinstance(raw, str) else raw if isinstance(raw, bool) else float(raw)


def numbers_of(values: Sequence[Number]) -> tuple[float, ...]:
    """Return plain floats, as constants take them."""
    return tuple(float(each) for each in values)
