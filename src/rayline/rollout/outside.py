"""Measures that only the outside world can take: a Prometheus query, or a Python function.

All that one decision needs are taken side by side, each with a deadline; what cannot be measured comes back as words,
and gives no verdict. They run beside the thread that moves traffic, so that a slow server delays no abort.
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rayline.errors import ServiceError
from rayline.rollout.analysis.external import Wanted
from rayline.rollout.hooks import imported, within

DEADLINE_S = 5.0
ANSWER_BYTES = 1_000_000


def measured(wanted: Sequence[Wanted], seconds: float = DEADLINE_S) -> Mapping[str, float | str]:
    """Take measurements side by side, within ``seconds`` each.

    Returns:
        By key: the number, or in words why there is none.
    """
    if not wanted:
        return {}
    with ThreadPoolExecutor(len(wanted), thread_name_prefix="rollout-measure") as threads:
        values = threads.map(lambda each: _measured(each, seconds), wanted)
        return {each.key: value for each, value in zip(wanted, values, strict=True)}


def _measured(wanted: Wanted, seconds: float) -> float | str:
    try:
        if wanted.kind == "prometheus":
            value = within(seconds, lambda: queried(wanted.address, wanted.text, seconds), f"query '{wanted.text}'")
        else:
            function = imported(wanted.text, "measure")
            arguments = (wanted.service, wanted.version)
            value = within(seconds, lambda: function(*arguments), f"measure '{wanted.text}'")
        return _number(value, wanted.text)
    except ServiceError as error:
        return str(error)


def queried(address: str, query: str, seconds: float) -> float:
    """Ask a Prometheus server for the value of a query now (``GET /api/v1/query``).

    Args:
        address: of the server, such as ``http://127.0.0.1:9090``.
        query: PromQL that gives a scalar, or a vector of one element.
        seconds: how long the server may take.

    Raises:
        ServiceError: it cannot be reached, refuses the query, or gives no or more than one number.
    """
    asked = urllib.parse.urlencode({"query": query, "timeout": f"{seconds:g}s"})
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/v1/query?{asked}", timeout=seconds) as answer:
            raw = json.loads(answer.read(ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            raise ServiceError(f"Prometheus at {address} answered {error.code}: {_said(error)}.") from None
    except (OSError, ValueError) as error:
        raise ServiceError(f"Prometheus at {address} cannot be asked: {error}.") from error
    return _value(raw, address)


def _value(raw: Any, address: str) -> float:
    try:
        data = raw["data"]
        kind, result = data["resultType"], data["result"]
        if kind == "scalar":
            return float(result[1])
        if kind == "vector" and len(result) == 1:
            return float(result[0]["value"][1])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ServiceError(f"Prometheus at {address} gave no query result: {str(raw)[:200]}.") from error
    found = len(result) if kind == "vector" else kind
    raise ServiceError(
        f"the query must give one number, and gave {found}{' series' if kind == 'vector' else ''}. "
        "Aggregate it, for instance with sum(...), or wait until the series exists."
    )


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(ANSWER_BYTES))["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return str(error.reason)


def _number(value: Any, text: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ServiceError(f"measure '{text}' gave {value!r:.60}; it must give a number.") from error
    if not math.isfinite(number):
        raise ServiceError(f"measure '{text}' gave {number}, which is no finite number.")
    return number
