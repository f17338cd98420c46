"""The ready-made MLP run by ONNX Runtime, from the weights of its bundle: a graph made here, and never one from a file.

It computes in single precision, which is quicker for wide layers and differs from the NumPy network by about 1e-7 of an
output; the same row may differ as much alone and in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import EnvironmentFailed
from rayline.registry.networks.mlp import MlpNetwork

OPSET, IR_VERSION = 17, 8


@dataclass(frozen=True, slots=True)
class OnnxNetwork:
    """A session of ONNX Runtime on the CPU. See ``Network``; safe to call from several threads."""

    session: Any

    def __call__(self, matrix: NDArray[np.float32], /) -> NDArray[np.float64]:
        [out] = self.session.run(None, {"x": matrix})
        return np.asarray(out, dtype=np.float64)

    @classmethod
    def of(cls, network: MlpNetwork, threads: int) -> OnnxNetwork:
        """Return a network of equal answers.

        Args:
            network: whose weights it takes.
            threads: that compute one pass.

        Raises:
            EnvironmentFailed: ONNX Runtime is not installed.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise EnvironmentFailed(
                "service.execution is 'onnx', and ONNX Runtime is not installed: `pip install 'rayline[onnx]'`, or set "
                "service.execution to auto or numpy."
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle threads of a session would spin on the cores that the replicas share.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return cls(onnxruntime.InferenceSession(_graph(network), options, providers=["CPUExecutionProvider"]))


def _graph(network: MlpNetwork) -> bytes:
    """Return the network as an ONNX model: Gemm and Relu in turn."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, last = [], [], len(network.layers) - 1
    for place, (weight, bias) in enumerate(network.layers):
        for name, array in ((f"w{place}", weight), (f"b{place}", bias)):
            weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        before, out = (f"h{place}" if place else "x"), ("y" if place == last else f"s{place}")
        nodes.append(helper.make_node("Gemm", [before, f"w{place}", f"b{place}"], [out]))
        if place != last:
            nodes.append(helper.make_node("Relu", [out], [f"h{place + 1}"]))
    first, end = network.layers[0][0], network.layers[-1][0]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", first.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", end.shape[1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    content: bytes = model.SerializeToString()
    return content
