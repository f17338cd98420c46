"""One text for one level and one instant for one date, however a source wrote it. Standard library only.

The batch path canonicalises the distinct values of a column, the row path the one value it got; both call this module,
so an integer-coded category means the same in CSV (``1``), in Parquet (``1.0``) and in a request (``"1"``).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from numbers import Integral, Real

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
EPOCH = datetime(1970, 1, 1)
LONGEST_NUMBER = 40  # digits; beyond it, text that looks like a number is an identifier and stays as it is


def level_text(value: object) -> str | None:
    """Return the canonical text of one level, or None where the value means 'missing'.

    Integral numbers lose their fraction (``1.0`` and ``"1.0"`` give ``"1"``), booleans become ``true`` and ``false``,
    empty text and NaN are missing.

    Raises:
        ValueError: the value is no scalar, or it is infinite.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _text_level(value)
    value = _python(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, (Real, Decimal)):
        return _number_level(float(value))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    raise ValueError("no scalar")


def level_order(text: str) -> tuple[int, float, str]:
    """Return the sort key of a level: numbers by value first, then texts by code point."""
    if len(text) <= LONGEST_NUMBER and NUMBER.fullmatch(text):
        return 0, float(text), text
    return 1, 0.0, text


def number(value: object) -> float | None:
    """Return one number as a float, or None where the value means 'missing' (None, NaN).

    Raises:
        ValueError: the value is text or no scalar.
        OverflowError: the value is an integer too large for a float.
    """
    value = _python(value)
    if value is None:
        return None
    if not isinstance(value, (Real, Decimal)):
        raise ValueError("no number")
    result = float(value)
    return None if math.isnan(result) else result


def truth(value: object) -> bool | None:
    """Return one boolean, or None where the value means 'missing'. Accepts true, false, 0, 1 and their texts.

    Raises:
        ValueError: the value is anything else.
    """
    value = _python(value)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        value = {"true": 1, "false": 0, "1": 1, "0": 0, "1.0": 1, "0.0": 0}.get(value.lower())
    elif isinstance(value, (Real, Decimal)) and value != value:
        return None
    if isinstance(value, (Real, Decimal)) and value in (0, 1):
        return bool(value)
    raise ValueError("no boolean")


def instant(value: object) -> int | None:
    """Return microseconds since 1970-01-01 UTC of an ISO 8601 text, a date or a datetime; None means 'missing'.

    A time with a zone is converted to UTC; one without is taken as it stands.

    Raises:
        ValueError: the value is neither.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
    elif isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day)
    else:
        raise ValueError("no date")
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    passed = moment - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def plain_text(value: object) -> str | None:
    """Return a text as it stands, or None where the value means 'missing' (None, NaN, empty text).

    Raises:
        ValueError: the value is no text.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _text_level(text: str) -> str | None:
    if not text:
        return None
    if text[0] not in "0123456789+-." or len(text) > LONGEST_NUMBER or not NUMBER.fullmatch(text):
        return text
    if text.lstrip("+-").isdecimal():
        return str(int(text))
    value = float(text)
    return _number_level(value) if math.isfinite(value) else text


def _number_level(value: float) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise ValueError("infinite")
    return str(int(value)) if value.is_integer() and abs(value) < 1e40 else repr(value)


def _python(value: object) -> object:
    """Return the Python scalar behind a NumPy scalar (``numpy.bool`` is no ``Real``); anything else as it is."""
    item = getattr(value, "item", None)
    return item() if item is not None and getattr(value, "ndim", None) == 0 else value
