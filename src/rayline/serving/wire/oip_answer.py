"""What the Open Inference Protocol's ``infer`` answers: a label and probabilities, or a number, for each row. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from rayline.errors import RowError, suggestion
from rayline.serving.wire.oip import Asked
from rayline.serving.wire.oip_tensors import to_binary

if TYPE_CHECKING:
    from rayline.registry.predictor import Predictions

BINARY = b"application/octet-stream"
JSON = b"application/json"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Written:
    """An answer as it goes over the wire; ``head_length`` is that of its JSON, where tensors follow it."""

    body: bytes
    content_type: bytes
    head_length: int | None


def outputs_of(classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the outputs of a version as its metadata tells them; ``classes`` is empty for a regression."""
    if not classes:
        return [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]
    return [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(classes)]},
    ]


def refuse_unknown_outputs(asked: Asked, classes: Sequence[str]) -> None:
    """Raise ``RowError`` where a request asks for an output that there is not."""
    names = [each["name"] for each in outputs_of(classes)]
    for name in asked.outputs or ():
        if name not in names:
            raise RowError(0, None, name, f"is no output. {suggestion(name, names)}")


def write(asked: Asked, predictions: Predictions, facts: Mapping[str, Any]) -> Written:
    """Return the answer to a request.

    Args:
        asked: the request.
        predictions: one answer for each row.
        facts: what stands beside the outputs, such as ``model_name``.
    """
    described: list[dict[str, Any]] = []
    tensors: list[bytes] = []
    for output in outputs_of(predictions.labels or ()):
        name, datatype = output["name"], output["datatype"]
        if asked.outputs is not None and name not in asked.outputs:
            continue
        binary = asked.binary if asked.outputs is None else asked.outputs[name]
        each = {"name": name, "datatype": datatype, "shape": [len(predictions), *output["shape"][1:]]}
        values: Any = predictions.outcomes if name != "probabilities" else predictions.probabilities
        if binary:
            tensors.append(to_binary(datatype, values))
            each["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            each["data"] = values if isinstance(values, list) else np.ravel(values).tolist()
        described.append(each)
    head = _encode({**({"id": asked.id} if asked.id is not None else {}), **facts, "outputs": described})
    if not tensors:
        return Written(head, JSON, None)
    return Written(b"".join((head, *tensors)), BINARY, len(head))
