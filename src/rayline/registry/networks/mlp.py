"""The ready-made MLP, run by NumPy from its safetensors weights alone: no torch where it serves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import BundleError

_KEY = re.compile(r"layers\.(\d+)\.(weight|bias)")


@dataclass(frozen=True, slots=True)
class MlpNetwork:
    """Linear layers with ReLU between them.

    The arithmetic is in double precision and its result rounded to single: the product of one row and that of many sum
    in another order and differ in the last bits of a double, of which the rounding leaves nothing but where they lie on
    two sides of a border, about once in a million. At the sizes of an MLP that serves rows it costs nothing that can be
    measured.

    Attributes:
        layers: per linear layer the transposed weight, float64 (inputs, outputs), and the bias, float64 (outputs,).
    """

    layers: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]

    def __call__(self, matrix: NDArray[np.float32], /) -> NDArray[np.float64]:
        state: NDArray[np.float64] = matrix.astype(np.float64)
        for weight, bias in self.layers[:-1]:
            state = state @ weight
            state += bias
            np.maximum(state, 0.0, out=state)
        weight, bias = self.layers[-1]
        state = state @ weight
        state += bias
        return state.astype(np.float32).astype(np.float64)

    @classmethod
    def from_safetensors(cls, content: bytes, inputs: int, outputs: int, place: str) -> MlpNetwork:
        """Return the network of ``layers.{i}.weight`` and ``layers.{i}.bias``.

        Args:
            content: a safetensors file with float32 tensors.
            inputs: how many numbers the features give.
            outputs: how many numbers the task needs.
            place: the file, as messages name it.

        Raises:
            BundleError: the file is damaged, or its layers do not lead from ``inputs`` to ``outputs``.
        """
        import safetensors
        from safetensors.numpy import load

        try:
            tensors = load(content)
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise BundleError(f"{place} is no safetensors file: {error}. Train the model again.") from error
        layers = tuple(_layer(tensors, index, place) for index in range(_depth(tensors, place)))
        width = inputs
        for index, (weight, _) in enumerate(layers):
            if weight.shape[0] != width:
                origin = "the features give" if index == 0 else "the layer before gives"
                raise BundleError(
                    f"{place}: layer {index} takes {weight.shape[0]} numbers, and {origin} {width}."
                    " The weights and features.json are not of one training."
                )
            width = weight.shape[1]
        if width != outputs:
            raise BundleError(f"{place}: the last layer gives {width} numbers, and the task needs {outputs}.")
        return cls(layers)


def _depth(tensors: dict[str, NDArray[Any]], place: str) -> int:
    for key in tensors:
        if not _KEY.fullmatch(key):
            raise BundleError(
                f"{place} holds the tensor '{key}', and an MLP has layers.0.weight, layers.0.bias and so on."
            )
    depth = len(tensors) // 2
    expected = {f"layers.{index}.{part}" for index in range(depth) for part in ("weight", "bias")}
    if not depth or tensors.keys() != expected:
        odd = min(tensors.keys() ^ expected, default="layers.0.weight")
        raise BundleError(f"{place}: the layers do not follow one another without a gap, see '{odd}'.")
    return depth


def _layer(tensors: dict[str, NDArray[Any]], index: int, place: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weight, bias = tensors[f"layers.{index}.weight"], tensors[f"layers.{index}.bias"]
    if weight.dtype != np.float32 or bias.dtype != np.float32:
        raise BundleError(f"{place}: layer {index} is {weight.dtype} and {bias.dtype}, and weights must be float32.")
    if weight.ndim != 2 or bias.shape != (weight.shape[0],):
        raise BundleError(f"{place}: layer {index} has weight {weight.shape} and bias {bias.shape}, which do not fit.")
    return np.ascontiguousarray(weight.T, dtype=np.float64), bias.astype(np.float64)
