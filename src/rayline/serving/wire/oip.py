"""The Open Inference Protocol's ``infer``: its JSON head and the binary tensors behind it, read into rows. Pure.

The protocol and its binary tensor extension are those of KServe and Triton:
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md. Each input is one
column, by its name: numbers, texts and flags of shape ``[n]`` or ``[n, 1]``, a vector ``[n, size]``, an image ``[n,
height, width, channels]``. One matrix for all columns is refused: only its places would tell which column is which.

Every count, rank, shape and length is compared with what the columns allow before a tensor is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from rayline.errors import RowError, shown, suggestion
from rayline.serving.wire.oip_tensors import DATATYPES, from_binary, from_json

HEADER = b"inference-header-content-length"
MOST_AXES = 8
REFUSED_PARAMETERS = ("shared_memory_region", "classification")

Column = str
Shapes = Mapping[Column, tuple[int, ...]]
"""The shape of one row's value in each column: () for a number, a text or a flag."""


class Tensor(Struct):
    """One input as the JSON head describes it; ``data`` is left as the JSON it is until its size is known."""

    name: str
    shape: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=MOST_AXES)]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Output(Struct):
    """One output that a request asks for."""

    name: str
    parameters: dict[str, Any] | None = None


class Head(Struct):
    """The JSON of a request. Keys that are not known are left alone: the protocol may grow."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[Output] | None = None
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for.

    Attributes:
        rows: one mapping of column and value each.
        id: as the client named the request; None where it did not.
        outputs: the names that it asks for, with whether each comes as binary; None for all.
        binary: outputs come as binary, where nothing else is said.
    """

    rows: list[dict[str, Any]]
    id: str | None
    outputs: dict[str, bool] | None
    binary: bool


_decode = msgspec.json.Decoder(Head).decode


def read(body: bytes, head_length: str | None, shapes: Shapes, max_rows: int) -> Asked:
    """Return what a request asks for.

    Args:
        body: the JSON head, and the binary tensors in the order of the inputs.
        head_length: the header ``Inference-Header-Content-Length``; None where all of the body is JSON.
        shapes: of the input columns.
        max_rows: per request.

    Raises:
        RowError: the request is not one, or a value cannot be; it names row and column where it can.
    """
    head, rest = _head(body, head_length)
    count = _rows(head, max_rows)
    sizes = [_binary_size(each) for each in head.inputs]
    told = sum(size or 0 for size in sizes)
    if told != len(rest):
        raise RowError(0, None, told, f"bytes of binary data are declared, and {len(rest)} follow the JSON")
    columns: dict[str, Sequence[Any]] = {}
    start = 0
    for tensor, size in zip(head.inputs, sizes, strict=True):
        if tensor.name in columns:
            raise RowError(0, tensor.name, tensor.name, "is sent twice; send each input column once")
        each = _element_shape(tensor, count, shapes)
        total = count * math.prod(each)
        if size is None:
            columns[tensor.name] = from_json(tensor, count, each)
        else:
            columns[tensor.name] = from_binary(tensor, rest[start : start + size], total, count, each)
            start += size
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    outputs = None
    if head.outputs:
        outputs = {each.name: _wants_binary(each, head) for each in head.outputs}
    return Asked(rows, head.id, outputs, _flag(head.parameters, "binary_data_output"))


def _head(body: bytes, head_length: str | None) -> tuple[Head, memoryview]:
    size = len(body)
    if head_length is not None:
        # More digits than that are no length of a body, and Python takes time over very many.
        size = int(head_length) if head_length.isascii() and head_length.isdigit() and len(head_length) < 12 else -1
        if not 0 < size <= len(body):
            rule = f"is no length of a JSON head; the body has {len(body)} bytes (Inference-Header-Content-Length)"
            raise RowError(0, None, head_length, rule)
    view = memoryview(body)
    try:
        return _decode(view[:size]), view[size:]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = body[:200].decode("utf-8", "replace")
        rule = (
            f'is not {{"inputs": [{{"name": "...", "shape": [...], "datatype": "...", "data": [...]}}, ...]}}: {error}'
        )
        raise RowError(0, None, text, rule) from error


def _rows(head: Head, max_rows: int) -> int:
    """Return how many rows all inputs agree to send."""
    if not head.inputs:
        raise RowError(0, None, [], "no inputs were sent; send one for each input column")
    first = head.inputs[0]
    for tensor in head.inputs:
        if not tensor.shape:
            raise RowError(0, tensor.name, [], "is no shape; its first number is the number of rows")
        if tensor.shape[0] != first.shape[0]:
            rule = f"rows were sent, and {first.shape[0]} of '{first.name}'; send as many of each column"
            raise RowError(0, tensor.name, tensor.shape[0], rule)
    count = first.shape[0]
    if not 0 < count <= max_rows:
        raise RowError(max(0, count - 1), None, count, f"rows were sent; send 1 to {max_rows} in one request")
    return count


def _element_shape(tensor: Tensor, count: int, shapes: Shapes) -> tuple[int, ...]:
    """Return the shape of one row's value. Raises ``RowError`` where the column has another, or does not exist."""
    if tensor.name not in shapes:
        rule = f"is no input column. {suggestion(tensor.name, shapes)}"
        raise RowError(0, tensor.name, tensor.name, rule)
    if tensor.datatype not in DATATYPES:
        raise RowError(0, tensor.name, tensor.datatype, f"is no datatype. {suggestion(tensor.datatype, DATATYPES)}")
    refused = next((key for key in REFUSED_PARAMETERS if key in (tensor.parameters or {})), None)
    if refused is not None:
        raise RowError(0, tensor.name, refused, "is not served here; send the values with the request")
    wanted, each = shapes[tensor.name], tuple(tensor.shape[1:])
    if each == wanted or (not wanted and each == (1,)) or (wanted and each == (math.prod(wanted),)):
        return wanted
    allowed = f"[{', '.join(map(str, (count, *wanted)))}]"
    raise RowError(0, tensor.name, list(tensor.shape), f"is not the shape of this column, which is {allowed}")


def _binary_size(tensor: Tensor) -> int | None:
    """Return the bytes of a binary tensor; None where its values stand in the JSON."""
    size = (tensor.parameters or {}).get("binary_data_size")
    if (size is None) == (tensor.data is msgspec.UNSET):
        rule = "must have its values once: as data in the JSON, or as binary data with parameter binary_data_size"
        raise RowError(0, tensor.name, shown(size), rule)
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
        raise RowError(0, tensor.name, size, "is no binary_data_size: a number of bytes")
    return size


def _wants_binary(output: Output, head: Head) -> bool:
    refused = next((key for key in REFUSED_PARAMETERS if key in (output.parameters or {})), None)
    if refused is not None:
        raise RowError(0, None, refused, f"is not served here for output '{output.name}'; leave it out")
    if "binary_data" in (output.parameters or {}):
        return _flag(output.parameters, "binary_data")
    return _flag(head.parameters, "binary_data_output")


def _flag(parameters: Mapping[str, Any] | None, key: str) -> bool:
    value = (parameters or {}).get(key, False)
    if not isinstance(value, bool):
        raise RowError(0, None, value, f"stands where the parameter {key} must be true or false")
    return value
