"""Conditions written as expressions, such as ``result <= stable * 1.2``: parsed by an allow-list, never run. Pure.

A condition is asked twice: with the measured values, and with the intervals that chance leaves them. The second answer
is None where values within the intervals would answer differently (Kleene's logic over interval arithmetic; R. E.
Moore, "Interval Analysis", 1966).
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rayline.errors import ConfigError, suggestion

NAMES = {"result": "canary", "canary": "canary", "stable": "stable"}
"""What an expression may speak of, and whose measurement it is."""

LONGEST = 500

Interval = tuple[float, float]
Answer = bool | None

_SIGNS: dict[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition that was read and found harmless.

    Attributes:
        text: as it was written.
        tree: its syntax, of allowed nodes alone.
        names: whose measurements it needs: ``canary``, ``stable`` or both.
    """

    text: str
    tree: ast.expr
    names: frozenset[str]

    @classmethod
    def parse(cls, text: str, where: str) -> Expression:
        """Read a condition: numbers, ``result``, ``canary``, ``stable``, ``+ - * /``, comparisons, and, or, not.

        Args:
            text: the condition.
            where: it stands, for messages.

        Raises:
            ConfigError: it is no such expression.
        """
        try:
            tree = ast.parse(text.strip(), mode="eval").body if len(text) <= LONGEST else None
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = getattr(error, "msg", None) or str(error)
            raise ConfigError(f"{where} '{text}' is no expression: {reason}.") from error
        if tree is None:
            raise ConfigError(f"{where}: an expression has at most {LONGEST} characters, not {len(text)}.")
        names: set[str] = set()
        _check_answer(tree, f"{where} '{text}'", names)
        if not names:
            raise ConfigError(f"{where} '{text}' speaks of nothing measured. Use result or stable in it.")
        return cls(text.strip(), tree, frozenset(names))

    def holds(self, ranges: Mapping[str, Interval]) -> Answer:
        """Tell whether it holds for all values within the ranges of ``canary`` and ``stable``; None where for some."""
        return _answer(self.tree, ranges)


def _check_answer(node: ast.expr, where: str, names: set[str]) -> None:
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            _check_answer(part, where, names)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check_answer(node.operand, where, names)
    elif isinstance(node, ast.Compare):
        for sign in node.ops:
            if type(sign) not in _SIGNS:
                raise ConfigError(f"{where}: numbers that are measured are compared by <, <=, > or >= only.")
        for part in (node.left, *node.comparators):
            _check_number(part, where, names)
    else:
        raise ConfigError(f"{where} must be true or false: a comparison such as result <= 0.05.")


def _check_number(node: ast.expr, where: str, names: set[str]) -> None:
    if isinstance(node, ast.Name):
        if node.id not in NAMES:
            raise ConfigError(f"{where}: '{node.id}' is unknown. {suggestion(node.id, NAMES)}")
        names.add(NAMES[node.id])
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        _check_number(node.left, where, names)
        _check_number(node.right, where, names)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        _check_number(node.operand, where, names)
    elif not _is_number(node):
        raise ConfigError(
            f"{where}: '{ast.unparse(node)}' is not allowed. An expression has numbers, result, stable, + - * /, "
            "comparisons, and, or, not."
        )


def _is_number(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
        and abs(node.value) < 1e300
    )


def _answer(node: ast.expr, ranges: Mapping[str, Interval]) -> Answer:
    if isinstance(node, ast.BoolOp):
        answers = [_answer(part, ranges) for part in node.values]
        decisive = isinstance(node.op, ast.Or)
        if decisive in answers:
            return decisive
        return None if None in answers else not decisive
    if isinstance(node, ast.UnaryOp):
        answer = _answer(node.operand, ranges)
        return None if answer is None else not answer
    assert isinstance(node, ast.Compare)
    numbers = [_number(part, ranges) for part in (node.left, *node.comparators)]
    answers = [
        _compared(_SIGNS[type(sign)], left, right)
        for sign, left, right in zip(node.ops, numbers, numbers[1:], strict=False)
    ]
    return False if False in answers else None if None in answers else True


def _compared(sign: str, left: Interval, right: Interval) -> Answer:
    if any(math.isnan(each) for each in (*left, *right)):
        return None
    if sign in (">", ">="):
        left, right, sign = right, left, {">": "<", ">=": "<="}[sign]
    if sign == "<":
        return True if left[1] < right[0] else False if left[0] >= right[1] else None
    return True if left[1] <= right[0] else False if left[0] > right[1] else None


def _number(node: ast.expr, ranges: Mapping[str, Interval]) -> Interval:
    if isinstance(node, ast.Name):
        return ranges[NAMES[node.id]]
    if isinstance(node, ast.UnaryOp):
        low, high = _number(node.operand, ranges)
        return (low, high) if isinstance(node.op, ast.UAdd) else (-high, -low)
    if isinstance(node, ast.Constant):
        value = float(node.value)  # type: ignore[arg-type]
        return value, value
    assert isinstance(node, ast.BinOp)
    left, right = _number(node.left, ranges), _number(node.right, ranges)
    if isinstance(node.op, ast.Div) and right[0] <= 0 <= right[1]:
        return -math.inf, math.inf
    combine = _ARITHMETIC[type(node.op)]
    corners = [combine(one, other) for one in left for other in right]
    if any(math.isnan(each) for each in corners):  # as of inf - inf and 0 * inf: anything may be
        return -math.inf, math.inf
    return min(corners), max(corners)
