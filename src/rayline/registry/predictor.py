"""From raw rows to predictions, by a bundle alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.features.transform import FittedFeatureSet
    from rayline.registry.networks.seam import Network

BATCH = 65_536  # rows that go through the network at a time: bounds the intermediates


@dataclass(frozen=True, slots=True)
class Predictions:
    """Answers for n rows.

    Attributes:
        values: float64 (n,) in the target's own units for a regression, else int64 (n,) class indices.
        probabilities: float32 (n, classes), each row summing to 1; None for a regression.
        labels: the classes in the order of their indices; None for a regression.
    """

    values: NDArray[Any]
    probabilities: NDArray[np.float32] | None
    labels: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Which rows got a usable answer: bool (n,)."""
        if self.probabilities is None:
            return np.asarray(np.isfinite(self.values))
        return np.asarray(np.isfinite(self.probabilities).all(axis=1))

    def part(self, start: int, stop: int) -> Predictions:
        """Return the answers of some rows, as views."""
        probabilities = self.probabilities
        some = None if probabilities is None else probabilities[start:stop]
        return Predictions(self.values[start:stop], some, self.labels)

    @property
    def outcomes(self) -> list[Any]:
        """The bare answers: the likeliest label of each row, or the number."""
        values = self.values.tolist()
        return values if self.labels is None else [self.labels[index] for index in values]

    def records(self) -> list[dict[str, Any]]:
        """Return one JSON-ready mapping per row: ``prediction``, or ``label`` and ``probabilities`` by class."""
        if self.probabilities is None or self.labels is None:
            return [{"prediction": value} for value in self.values.tolist()]
        labels = self.labels
        return [
            {"label": labels[index], "probabilities": dict(zip(labels, row, strict=True))}
            for index, row in zip(self.values.tolist(), self.probabilities.tolist(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Predictor:
    """A fitted FeatureSet and a network. Safe to call from several threads."""

    features: FittedFeatureSet
    network: Network

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> Predictions:
        """Answer request rows, without Arrow or pandas.

        Raises:
            RowError: a row lacks an input column or holds a value of the wrong type.
        """
        if len(rows) == 1:
            return self.predict_matrix(self.features.row(rows[0])[np.newaxis])
        return self.predict_matrix(self.features.rows(rows))

    def predict_table(self, table: pa.Table) -> Predictions:
        """Answer a raw table; columns that are no input are ignored.

        Raises:
            SchemaError: an input column is missing from the table.
            RowError: a value has the wrong type.
        """
        return self.predict_matrix(self.features.transform(table))

    def predict_matrix(self, matrix: NDArray[np.float32]) -> Predictions:
        """Answer the network's input, float32 (n, width)."""
        features = self.features
        if 0 < len(matrix) <= BATCH:
            outputs = self.network(matrix)
        else:
            parts = [self.network(matrix[start : start + BATCH]) for start in range(0, len(matrix), BATCH)]
            outputs = np.concatenate(parts) if parts else np.empty((0, len(features.classes) or 1))
        if features.task == "regression":
            return Predictions(outputs[:, 0] * features.target_std + features.target_mean, None, None)
        probabilities = sigmoid(outputs[:, 0]) if features.task == "binary" else softmax(outputs)
        return Predictions(probabilities.argmax(axis=1), probabilities.astype(np.float32), features.classes)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of both classes, (n, 2), of logits (n,); neither overflows nor loses the small one."""
    small = np.exp(-np.abs(logits))
    total = 1.0 + small
    out = np.empty((len(logits), 2))
    out[:, 1] = np.where(logits > 0, 1.0, small) / total
    out[:, 0] = np.where(logits > 0, small, 1.0) / total
    return out


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities, (n, classes), of logits (n, classes); NaN where a row holds an infinity or NaN."""
    with np.errstate(invalid="ignore"):
        out: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    out /= out.sum(axis=1, keepdims=True)
    return out
