"""The MLP in NumPy: the same numbers as torch, and weights that do not fit are refused."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save

from rayline.errors import BundleError
from rayline.model import InputLayout, build_module
from rayline.registry.networks.mlp import MlpNetwork
from registry_examples import model_config, weights


@pytest.mark.parametrize("hidden", [[], [5], [64, 32], [7, 7, 7]])
@pytest.mark.parametrize("outputs", [1, 4])
def test_numpy_gives_what_torch_gives(hidden: list[int], outputs: int) -> None:
    import torch
    from safetensors.torch import save as save_torch

    torch.manual_seed(3)
    module = build_module(model_config(hidden=hidden, dropout=0.2), InputLayout.plain(11), outputs).eval()
    matrix = np.random.default_rng(0).normal(0, 2, (300, 11)).astype(np.float32)

    network = MlpNetwork.from_safetensors(save_torch(module.state_dict()), 11, outputs, "w")

    with torch.no_grad():
        expected = module(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(network(matrix), expected, rtol=1e-6, atol=1e-6)


def test_a_row_gets_the_same_answer_in_a_batch_of_any_size() -> None:
    network = MlpNetwork.from_safetensors(save(weights(20, 3, (64, 32))), 20, 3, "w")
    matrix = np.random.default_rng(1).normal(size=(257, 20)).astype(np.float32)

    alone = np.concatenate([network(matrix[row : row + 1]) for row in range(len(matrix))])

    np.testing.assert_allclose(alone, network(matrix), rtol=1e-12, atol=1e-12)


def without(key: str) -> dict[str, np.ndarray]:
    tensors = weights(4, 1)
    del tensors[key]
    return tensors


@pytest.mark.parametrize(
    ("tensors", "rule"),
    [
        (without("layers.1.bias"), "without a gap"),
        (without("layers.0.weight") | {"layers.7.weight": np.zeros((1, 1), np.float32)}, "without a gap"),
        ({}, "without a gap"),
        (weights(4, 1) | {"norm.weight": np.zeros(4, np.float32)}, r"the tensor 'norm\.weight'"),
        (weights(5, 1), "layer 0 takes 5 numbers, and the features give 4"),
        (weights(4, 2), "gives 2 numbers, and the task needs 1"),
        (weights(4, 1) | {"layers.1.weight": np.zeros((8, 9), np.float32)}, "layer 1 takes 9 numbers, and the layer"),
        (weights(4, 1) | {"layers.0.bias": np.zeros(16, np.float64)}, "layer 0 is float32 and float64"),
        (weights(4, 1) | {"layers.0.bias": np.zeros(15, np.float32)}, "do not fit"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tensors: dict[str, np.ndarray], rule: str) -> None:
    with pytest.raises(BundleError, match=rule) as refused:
        MlpNetwork.from_safetensors(save(tensors), 4, 1, "the file")

    assert str(refused.value).startswith("the file")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x04\x95pickle", save(weights(4, 1))[:-3]])
def test_what_is_no_safetensors_file_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="is no safetensors file"):
        MlpNetwork.from_safetensors(content, 4, 1, "the file")
