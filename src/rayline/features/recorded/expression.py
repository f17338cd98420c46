"""A formula in a configuration, such as ``log1p(price / area)``, as a function over arrays; nothing else is run."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rayline.errors import ConfigError, suggestion
from rayline.features.recorded.functions import NAMES

FUNCTIONS: dict[str, Callable[..., Any]] = {name: getattr(np, name) for name in NAMES if hasattr(np, name)}
FUNCTIONS |= {"abs": np.abs, "min": np.minimum, "max": np.maximum}
CONSTANTS = {"pi": np.pi, "e": np.e, "nan": np.nan, "inf": np.inf}

BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: np.logical_and,
    ast.BitOr: np.logical_or,
    ast.And: np.logical_and,
    ast.Or: np.logical_or,
}
UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: np.logical_not,
    ast.Invert: np.logical_not,
}
COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}

Reader = Callable[[Any, Mapping[str, Any]], Any]


def expression(text: str, names: Sequence[str], place: str) -> Callable[..., Any]:
    """Return the function that a formula over inputs means.

    Args:
        text: numbers, the inputs' names, operators, comparisons, ``this if condition else that`` and NumPy's
            element-wise functions by their own names.
        names: of the inputs, in the order that the function takes them.
        place: names it in messages.

    Raises:
        ConfigError: it is no such formula.
    """
    try:
        body = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ConfigError(
            f"{place} '{text}' is neither my_package.my_module:name nor a formula: {error.msg}."
        ) from error
    for node in ast.walk(body):
        if isinstance(node, ast.Name) and node.id not in (*names, *FUNCTIONS, *CONSTANTS):
            near = suggestion(node.id, [*names, *FUNCTIONS])
            raise ConfigError(f"{place} '{text}' names '{node.id}', which is no input and no function. {near}")

    def function(*arrays: Any) -> Any:
        return _value(body, dict(zip(names, arrays, strict=True)), f"{place} '{text}'")

    return function


def _value(node: ast.AST, inputs: Mapping[str, Any], place: str) -> Any:
    reader = _READERS.get(type(node))
    if reader is None:
        raise ConfigError(
            f"{place} has '{ast.unparse(node)}', which no formula may have. Use numbers, inputs, operators and NumPy's "
            "element-wise functions, or write a Python function and name it as my_package.my_module:name."
        )
    return reader(node, inputs, place)


def _constant(node: Any, inputs: Mapping[str, Any], place: str) -> Any:
    if not isinstance(node.value, (int, float)):
        raise ConfigError(f"{place} has {node.value!r}, which is no number.")
    return node.value if isinstance(node.value, bool) else float(node.value)


def _name(node: Any, inputs: Mapping[str, Any], place: str) -> Any:
    if node.id in inputs:
        return inputs[node.id]
    if node.id in CONSTANTS:
        return CONSTANTS[node.id]
    raise ConfigError(f"{place} names the function '{node.id}' without calling it.")


def _binary(node: Any, inputs: Mapping[str, Any], place: str) -> Any:
    if type(node.op) not in BINARY:
        raise ConfigError(f"{place} has an operator that no formula may have, in '{ast.unparse(node)}'.")
    return BINARY[type(node.op)](_value(node.left, inputs, place), _value(node.right, inputs, place))


def _unary(node: Any, inputs: Mapping[str, Any], place: str) -> Any:
    return UNARY[type(node.op)](_value(node.operand, inputs, place))


def _both(node: Any, inputs: Mapping[str, Any], place: str) -> Any:
    first, *others = (_value(each, inputs, place) for each in node.values)
    for other in others:
        first = BINARY[type(node.op)](first, other)
    return first


def _compare(node: Any, inputs: Mapping[str, Any], place: str) -> Any:
    sides = [_value(each, inputs, place) for each in (node.left, *node.comparators)]
    result = None
    for operation, left, right in zip(node.ops, sides[:-1], sides[1:], strict=True):
        if type(operation) not in COMPARISONS:
            raise ConfigError(f"{place} has a comparison that no formula may have, in '{ast.unparse(node)}'.")
        holds = COMPARISONS[type(operation)](left, right)
        result = holds if result is None else np.logical_and(result, holds)
    return result


def _choice(node: Any, inputs: Mapping[str, Any], place: str) -> Any:
    parts = (_value(each, inputs, place) for each in (node.test, node.body, node.orelse))
    return np.where(*parts)


def _call(node: Any, inputs: Mapping[str, Any], place: str) -> Any:
    if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
        raise ConfigError(
            f"{place} calls '{ast.unparse(node)}', which no formula may. Functions: {', '.join(sorted(FUNCTIONS))}."
        )
    return FUNCTIONS[node.func.id](*(_value(each, inputs, place) for each in node.args))


_READERS: dict[type[ast.AST], Any] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _both,
    ast.Compare: _compare,
    ast.IfExp: _choice,
    ast.Call: _call,
}
