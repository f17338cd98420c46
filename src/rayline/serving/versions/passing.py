"""One forward pass for the rows of several requests, in which no request can spoil another's answer.

The way of all requests together is taken first. Where it fails it is gone again, request by request, so that the one at
fault is told apart; whatever is wrong with it is then its own answer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import RaylineError, RowError
from rayline.serving.versions.batching import Rows
from rayline.serving.wire import protocol
from rayline.serving.wire.decoding import RowDecoder, TypedRows

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions
    from rayline.serving.versions.served import Served


class NotFinite(RaylineError):
    """A model's answer is not a number: the version is at fault, not the request."""


def answered(served: Served, requests: Sequence[Rows]) -> list[Predictions | Exception]:
    """Answer requests by one pass of a version.

    Returns:
        Per request its predictions; or ``RowError`` where a row cannot be used, ``NotFinite``, ``EnvironmentFailed``
        where the online store cannot be used, or what the version raised for it.
    """
    if len(requests) == 1:
        return [_tried(lambda rows: _checked(served, matrix_of(served, [rows])), requests[0])]
    try:
        whole = matrix_of(served, requests)
    except Exception:  # noqa: BLE001 - whose row it is shows request by request
        return _without_the_bad(served, [_tried(lambda rows: matrix_of(served, [rows]), each) for each in requests])
    return _passed(served, whole, [len(rows) for rows in requests])


def matrix_of(served: Served, requests: Sequence[Rows]) -> NDArray[np.float32]:
    """Return the network's input for all rows: float32 (n, width). Raises ``RowError`` and ``EnvironmentFailed``."""
    typed = [rows for rows in requests if isinstance(rows, TypedRows) and rows.decoder is served.decoder]
    if served.decoder is not None and len(typed) == len(requests):
        matrix = _typed(served.decoder, typed)
        if matrix is not None:
            return matrix
    return _general(served, requests[0] if len(requests) == 1 else list(chain.from_iterable(requests)))


def _typed(decoder: RowDecoder, requests: Sequence[TypedRows]) -> NDArray[np.float32] | None:
    try:
        return decoder.matrix(requests)
    except RowError:
        return None  # the general path tells whose


def _general(served: Served, rows: Rows) -> NDArray[np.float32]:
    if served.lookup is not None:
        rows = served.lookup.completed(rows)
    matrix = served.predictor.features.rows(rows)
    width = len(served.columns)
    for row in rows:
        if len(row) != width:
            protocol.refuse_unknown_columns(rows, served.columns, served.bundle.features.schema.target)
            break
    return matrix


def _without_the_bad(
    served: Served, matrices: Sequence[NDArray[np.float32] | Exception]
) -> list[Predictions | Exception]:
    good = [matrix for matrix in matrices if not isinstance(matrix, Exception)]
    counts = [len(matrix) for matrix in good]
    outcomes = iter(_passed(served, np.concatenate(good), counts) if good else [])
    return [matrix if isinstance(matrix, Exception) else next(outcomes) for matrix in matrices]


def _passed(served: Served, whole: NDArray[np.float32], counts: Sequence[int]) -> list[Predictions | Exception]:
    """Answer the matrix of several requests, of so many rows each."""
    ends = list(accumulate(counts))
    spans = list(zip([0, *ends], ends, strict=False))
    try:
        predictions = served.predictor.predict_matrix(whole)
    except Exception:  # noqa: BLE001 - as above
        return [_tried(lambda span: _checked(served, whole[span[0] : span[1]]), span) for span in spans]
    parts = [predictions.part(start, stop) for start, stop in spans]
    if _are_numbers(predictions):
        return list(parts)
    return [_tried(lambda part: _finite(served, part), part) for part in parts]


def _checked(served: Served, matrix: NDArray[np.float32]) -> Predictions:
    return _finite(served, served.predictor.predict_matrix(matrix))


def _finite(served: Served, predictions: Predictions) -> Predictions:
    if _are_numbers(predictions):
        return predictions
    row = int(np.argmin(predictions.finite))
    numbers = predictions.values if predictions.probabilities is None else predictions.probabilities.max(axis=1)
    raise NotFinite(f"version {served.live.number} answered row {row} with {numbers[row]}, which is no number.")


def _are_numbers(predictions: Predictions) -> bool:
    numbers = predictions.values if predictions.probabilities is None else predictions.probabilities
    return bool(np.isfinite(numbers).all())


def _tried(one: Callable[[Any], Any], part: Any) -> Any:
    try:
        return one(part)
    except Exception as error:  # noqa: BLE001 - a version at fault is counted and must not end the replica
        return error
