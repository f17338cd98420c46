"""How a version's network is run: by what the service asks for, or by what measures fastest on the bundle's example.

A faster engine is taken only where its answers agree with the bundle's own, and where it saves enough at one row and in
a batch alike: the bundle's own gives the same answer alone and in any batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rayline.errors import ConfigError, EnvironmentFailed
from rayline.registry.networks.mlp import MlpNetwork
from rayline.registry.networks.onnx_engine import OnnxNetwork
from rayline.registry.networks.seam import Network
from rayline.registry.predictor import Predictor

Execution = Literal["auto", "numpy", "onnx", "torch"]

BATCH = 64
TOLERANCE = 1e-5  # of an output, absolute and relative
ENOUGH = 0.75  # of the time of the bundle's own
CALLS, SECONDS = 25, 0.2  # of measuring one engine at one size

# By name, since a class of another engine would load its library.
_OWN = {
    "MlpNetwork": "numpy",
    "ProgramNetwork": "torch",
    "EstimatorNetwork": "scikit-learn",
    "BoosterNetwork": "xgboost",
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The engine that a version runs on.

    Attributes:
        predictor: runs on it.
        engine: ``numpy``, ``onnx``, ``torch``, ``scikit-learn`` or ``xgboost``.
        why: what was measured or asked for, for people.
    """

    predictor: Predictor
    engine: str
    why: str


def chosen(
    predictor: Predictor, matrix: NDArray[np.float32], execution: Execution = "numpy", threads: int = 1
) -> Chosen:
    """Choose the engine of a version.

    Args:
        predictor: of its bundle.
        matrix: the network's input of some real rows, float32 (n, width).
        execution: as in ``ServiceConfig``; a network that is no ready-made one has one engine, whatever is asked.
        threads: that compute one pass.

    Raises:
        ConfigError: the network cannot be run as asked.
        EnvironmentFailed: it could, and a package is not installed.
    """
    network = predictor.network
    own = _OWN.get(type(network).__name__, type(network).__name__)
    if not isinstance(network, MlpNetwork):
        return Chosen(predictor, own, "the only engine of its kind")
    if execution == "torch":
        raise ConfigError(
            "service.execution is 'torch', and the ready-made MLP is run from its weights, without torch. Set it to "
            "auto, numpy or onnx."
        )
    if execution == "numpy" or not len(matrix):
        return Chosen(predictor, own, "as the service asks" if execution == "numpy" else "no example to measure")
    try:
        other = OnnxNetwork.of(network, threads)
    except EnvironmentFailed:
        if execution == "onnx":
            raise
        return Chosen(predictor, own, "ONNX Runtime is not installed")
    why = compared(network, other, matrix)
    if execution == "onnx" and why.agrees:
        return Chosen(replace(predictor, network=other), "onnx", f"as the service asks; {why.text}")
    if execution == "onnx":
        raise ConfigError(f"service.execution is 'onnx', and its answers are not the bundle's own: {why.text}.")
    if why.agrees and why.pays:
        return Chosen(replace(predictor, network=other), "onnx", why.text)
    return Chosen(predictor, own, why.text)


@dataclass(frozen=True, slots=True)
class Compared:
    """Two engines on the same rows: whether their answers agree, whether the second pays, and both in words."""

    agrees: bool
    pays: bool
    text: str


def compared(own: Network, other: Network, matrix: NDArray[np.float32]) -> Compared:
    """Compare the answers and the speed of two engines at one row and at 64."""
    times: list[tuple[float, float]] = []
    difference, agrees = 0.0, True
    for rows in (1, BATCH):
        some = np.ascontiguousarray(np.resize(matrix, (rows, matrix.shape[1])))
        expected, found = own(some), other(some)
        difference = max(difference, float(np.abs(expected - found).max()))
        agrees &= bool(np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE))
        times.append((_seconds(own, some), _seconds(other, some)))
    sizes = "; ".join(
        f"{rows} rows: numpy {mine * 1e6:.0f} us, onnx {theirs * 1e6:.0f} us"
        for rows, (mine, theirs) in zip((1, BATCH), times, strict=True)
    )
    pays = all(theirs <= ENOUGH * mine for mine, theirs in times)
    return Compared(agrees, pays, f"{sizes}; largest difference {difference:.1e}")


def _seconds(network: Network, matrix: NDArray[np.float32]) -> float:
    best, began = float("inf"), time.perf_counter()
    for _ in range(CALLS):
        start = time.perf_counter()
        network(matrix)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - began > SECONDS:
            break
    return best
