"""The model that each server answers by: the bundle that ``BUNDLE`` names, on one BLAS thread, as a replica."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from rayline.registry.bundle import Bundle
from rayline.registry.predictor import Predictor


def predictor() -> Predictor:
    """Load the bundle."""
    threadpool_limits(limits=1)
    return Bundle.load(Path(os.environ["BUNDLE"])).predictor()


def answer(predictor: Predictor, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the body of an answer."""
    return {"predictions": predictor.predict(rows).records()}
