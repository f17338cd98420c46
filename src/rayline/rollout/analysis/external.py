"""Measurements that only the outside world can take: what is asked, and under which key the answer comes back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rayline.config import MetricCondition

EXTERNAL = ("prometheus", "function")
"""Measures that no count of the service gives."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One measurement that is wanted.

    Attributes:
        key: names it in ``Seen.external``; the same key is the same measurement.
        kind: ``prometheus``: ask ``address`` for ``text`` now. ``function``: call ``text``, a ``module:name``, with the
            service and ``version``; it returns a number.
        text: the query with everything filled in, or the function.
        address: of the Prometheus server; empty for a function.
        service: the service's name.
        version: that is measured.
    """

    key: str
    kind: Literal["prometheus", "function"]
    text: str
    address: str
    service: str
    version: int


def wanted(condition: MetricCondition, service: str, version: int) -> Wanted:
    """Return what a ``prometheus`` or ``function`` measure asks of one version."""
    if condition.measure == "prometheus":
        query = (condition.query or "").replace("{service}", service).replace("{version}", str(version))
        return Wanted(f"{condition.address} {query}", "prometheus", query, condition.address, service, version)
    function = condition.function or ""
    return Wanted(f"{function}({service}, {version})", "function", function, "", service, version)
