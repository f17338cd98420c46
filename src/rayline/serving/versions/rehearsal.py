"""One request answered by one bundle, in a process where nothing else is: what a replica does, without the service.

``python -m rayline.serving.versions.rehearsal BUNDLE BODY OUT`` reads a request body from a file and writes into the
folder OUT either ``answers.npz`` (``features`` float32 (n, width), ``outcomes`` float64 (n, classes or 1)) or
``refusal.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rayline.errors import RowError
from rayline.serving.wire import protocol

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions

ANSWERS = "answers.npz"
REFUSAL = "refusal.json"


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a bundle makes of the rows of a request.

    Attributes:
        features: float32 (n, width), the network's input.
        outcomes: float64 (n, classes) probabilities, or (n, 1) values of a regression.
    """

    features: NDArray[np.float32]
    outcomes: NDArray[np.float64]


def rehearse(bundle: Path, body: bytes) -> Rehearsed:
    """Decode a request as a service does and answer it by a bundle, loaded from disk.

    Raises:
        BundleError, NotFoundError: the bundle does not load.
        RowError: a row cannot be used.
    """
    from rayline.registry.bundle import Bundle

    predictor = Bundle.load(bundle).predictor()
    rows = protocol.decode_rows(body, sys.maxsize)
    return Rehearsed(predictor.features.rows(rows), outcomes(predictor.predict(rows)))


def outcomes(predictions: Predictions) -> NDArray[np.float64]:
    """Return predictions as one matrix: float64 (n, classes) probabilities, or (n, 1) values."""
    if predictions.probabilities is None:
        return np.asarray(predictions.values, dtype=np.float64)[:, np.newaxis]
    return predictions.probabilities.astype(np.float64)


def main(arguments: Sequence[str]) -> None:
    """Answer, or write down which row was refused and why."""
    bundle, body, out = (Path(each) for each in arguments)
    try:
        found = rehearse(bundle, body.read_bytes())
    except RowError as error:
        (out / REFUSAL).write_bytes(protocol.encode(protocol.refusal(error)))
        return
    np.savez(out / ANSWERS, features=found.features, outcomes=found.outcomes)


if __name__ == "__main__":
    main(sys.argv[1:])
