"""Some answered requests of one version, as columns: what counts, comparisons and captures are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rayline.serving.versions.batching import Rows

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.registry.predictor import Predictions
    from rayline.serving.versions.answering import Finished
    from rayline.serving.versions.served import Served

Arm = Literal["stable", "canary", "shadow"]

Request = tuple["Finished", float]
"""An answered request, and the unix time of its answer."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Requests, and their n rows in the order of the requests.

    Attributes:
        served: the version.
        arm: its part at that time.
        ids, keys, seconds, at: per request: id, session key, seconds inside the replica, unix time of the answer.
        sizes: int64, the rows of each request.
        requests: the rows of each, as they were asked.
        table: all of them, as typed columns: see ``row_table``; what a version looks up itself is not among them.
        predictions: of the rows.
        slices: int64 (n, slice columns), the place of each row in the labels of each slice column.
        sampled: bool per request, whether it is captured.
    """

    served: Served
    arm: Arm
    ids: tuple[str, ...]
    keys: tuple[str | None, ...]
    seconds: tuple[float, ...]
    at: tuple[float, ...]
    sizes: NDArray[np.int64]
    requests: tuple[Rows, ...]
    table: pa.Table
    predictions: Predictions
    slices: NDArray[np.int64]
    sampled: NDArray[np.bool_]

    def __len__(self) -> int:
        return int(self.sizes.sum())

    @property
    def owners(self) -> NDArray[np.int64]:
        """The index of the request that each row belongs to."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @property
    def places(self) -> NDArray[np.int64]:
        """The index of each row in its request."""
        ends = np.cumsum(self.sizes)
        found: NDArray[np.int64] = np.arange(len(self)) - np.repeat(ends - self.sizes, self.sizes)
        return found

    def picked(self, wanted: NDArray[np.bool_]) -> Answered:
        """Return some of the requests: bool per request."""
        if wanted.all():
            return self
        chosen = np.flatnonzero(wanted)
        rows = np.flatnonzero(wanted[self.owners])
        return replace(
            self,
            ids=tuple(self.ids[index] for index in chosen),
            keys=tuple(self.keys[index] for index in chosen),
            seconds=tuple(self.seconds[index] for index in chosen),
            at=tuple(self.at[index] for index in chosen),
            sizes=self.sizes[chosen],
            requests=tuple(self.requests[index] for index in chosen),
            table=self.table.take(rows) if self.table.num_columns else self.table,
            predictions=taken(self.predictions, rows),
            slices=self.slices[rows],
            sampled=self.sampled[chosen],
        )


def taken(predictions: Predictions, rows: NDArray[Any]) -> Predictions:
    """Return the predictions of some rows: their indices, or bool (n,)."""
    probabilities = predictions.probabilities
    return type(predictions)(
        predictions.values[rows], None if probabilities is None else probabilities[rows], predictions.labels
    )


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Return several predictions of one version as one."""
    from rayline.registry.predictor import Predictions

    if len(parts) == 1:
        return parts[0]
    values = np.concatenate([each.values for each in parts])
    if parts[0].probabilities is None:
        return Predictions(values, None, None)
    return Predictions(values, np.concatenate([each.probabilities for each in parts]), parts[0].labels)
