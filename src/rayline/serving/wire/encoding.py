"""Answers to JSON by typed records: the same bytes as of one mapping per row, without the mappings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions

MOST_CLASSES = 64  # beyond it, a call with an argument per class is no gain


class RecordEncoder:
    """Writes the records of one version's answers: ``prediction``, or ``label`` and ``probabilities`` by class."""

    def __init__(self, labels: tuple[str, ...] | None) -> None:
        """Compile for a version's classes, in the order of their indices; None for a regression."""
        self._encode = msgspec.json.Encoder().encode
        self._records: Callable[[Predictions], Any] = _records_of(labels)

    def encode(self, predictions: Predictions) -> bytes:
        """Return what ``protocol.encode(predictions.records())`` does."""
        return self._encode(self._records(predictions))


def _records_of(labels: tuple[str, ...] | None) -> Callable[[Predictions], Any]:
    if labels is None:
        number = msgspec.defstruct("Record", [("prediction", float)], gc=False)
        return lambda predictions: list(map(number, predictions.values.tolist()))
    names = [f"c{place}" for place in range(len(labels))]
    try:
        shares = msgspec.defstruct("Shares", names, rename=dict(zip(names, labels, strict=True)), gc=False)
    except ValueError:  # a label needs escapes, or stands there twice
        return lambda predictions: predictions.records()
    record = msgspec.defstruct("Record", ["label", "probabilities"])

    def typed(predictions: Predictions) -> Any:
        assert predictions.probabilities is not None
        return list(map(record, predictions.outcomes, map(shares, *predictions.probabilities.T.tolist())))

    return typed if len(labels) <= MOST_CLASSES else lambda predictions: predictions.records()
