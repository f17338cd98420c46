"""What data was used, as plain values with a JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rayline.features.splits.identity import PartFacts


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What data was used.

    Attributes:
        source: the path, glob, URI or query, as messages name it.
        digest: 32 hex digits over the rows' content, whatever their order.
        rows: rows of the parts ``train``, ``valid`` and ``test``.
        warnings: what validation remarked and the features handle, one sentence each.
        parts: rows and digest of each part, by its name.
        anomalies: how many rows broke each rule of the schema, by the rule's name.
        quarantined: how many rows were set aside, in the folder ``quarantine``.
        left_out: rows in a gap of the split, which are in no part.
        shares: by part, the share of its rows that each class has; empty for a regression.
    """

    source: str
    digest: str
    rows: dict[str, int]
    schema_fingerprint: str
    warnings: tuple[str, ...] = ()
    parts: dict[str, PartFacts] = field(default_factory=dict)
    anomalies: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0
    left_out: int = 0
    shares: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> DataFacts:
        """Return the facts of ``to_json``'s values. Raises ``KeyError`` or ``TypeError`` where they are not that."""
        parts = {name: PartFacts(**each) for name, each in raw["parts"].items()}
        return cls(**{**raw, "warnings": tuple(raw["warnings"]), "parts": parts})
