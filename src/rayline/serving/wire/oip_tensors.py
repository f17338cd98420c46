"""Tensors of the Open Inference Protocol, in JSON or binary, as one Python value per row. Pure.

JSON may hold null for a missing value; in binary NaN and an empty text mean that. Binary numbers are little-endian in
row-major order; a text is its length in four bytes, then its UTF-8.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from rayline.errors import RowError

if TYPE_CHECKING:
    from rayline.serving.wire.oip import Tensor

DATATYPES = {
    "BOOL": "<u1",
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    "BYTES": "",
}
"""The protocol's datatypes, and NumPy's name of each; BF16, which NumPy has none for, is not taken."""

_LENGTH = struct.Struct("<I")


def from_json(tensor: Tensor, count: int, shape: tuple[int, ...]) -> Sequence[Any]:
    """Return the ``count`` values of a tensor in JSON, flat or nested. Raises ``RowError``."""
    size = math.prod(shape)
    raw = bytes(tensor.data)  # type: ignore[arg-type]
    if tensor.datatype != "BYTES" and raw.count(b",") + 1 != count * size:
        raise _wrong_length(tensor, raw.count(b",") + 1, count * size)
    try:
        flat = list(_leaves(msgspec.json.decode(raw), len(tensor.shape)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise RowError(0, tensor.name, raw[:60].decode("utf-8", "replace"), f"is no data: {error}") from error
    if len(flat) != count * size:
        raise _wrong_length(tensor, len(flat), count * size)
    _refuse_other_types(tensor, flat, size, missing=not shape)
    if not shape:
        return flat
    return [flat[start : start + size] for start in range(0, len(flat), size)]


def from_binary(tensor: Tensor, data: memoryview, total: int, count: int, shape: tuple[int, ...]) -> Sequence[Any]:
    """Return the ``count`` values of a binary tensor of ``total`` elements. Raises ``RowError``."""
    if tensor.datatype == "BYTES":
        if shape:
            raise RowError(0, tensor.name, "BYTES", "is no datatype of an array; send numbers")
        return _texts(tensor, data, total)
    kind = np.dtype(DATATYPES[tensor.datatype])
    if len(data) != total * kind.itemsize:
        rule = f"bytes were sent, and {total} values of {tensor.datatype} take {total * kind.itemsize}"
        raise RowError(0, tensor.name, len(data), rule)
    values = np.frombuffer(data, kind)
    if tensor.datatype == "BOOL":
        wrong = np.flatnonzero(values > 1)
        if len(wrong):
            row = int(wrong[0]) * count // max(total, 1)
            raise RowError(row, tensor.name, int(values[wrong[0]]), "is no flag; a byte of 0 or 1 stands for one")
        values = values.astype(np.bool_)
    return list(values.reshape(count, *shape)) if shape else values.tolist()


def to_binary(datatype: str, values: Any) -> bytes:
    """Return values as a binary tensor."""
    if datatype == "BYTES":
        texts = [each.encode("utf-8") for each in values]
        return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))
    return np.asarray(values, dtype=DATATYPES[datatype]).tobytes()


def _texts(tensor: Tensor, data: memoryview, total: int) -> list[str]:
    if len(data) < total * _LENGTH.size:
        raise RowError(0, tensor.name, len(data), f"bytes were sent, which is too short for {total} texts")
    texts: list[str] = []
    start = 0
    for row in range(total):
        end = start + _LENGTH.size
        length = _LENGTH.unpack_from(data, start)[0] if end <= len(data) else len(data)
        if end + length > len(data):
            rule = f"bytes is longer than what was sent, {max(0, len(data) - end)} bytes from there"
            raise RowError(row, tensor.name, length, rule)
        try:
            texts.append(str(data[end : end + length], "utf-8"))
        except UnicodeDecodeError as error:
            raise RowError(row, tensor.name, bytes(data[end : end + min(length, 60)]), "is not UTF-8") from error
        start = end + length
    if start != len(data):
        raise RowError(total - 1, tensor.name, len(data) - start, f"bytes are left over after {total} texts")
    return texts


def _leaves(value: Any, depth: int) -> Iterator[Any]:
    """Yield what lies in lists of at most ``depth`` axes. Raises ``ValueError`` where it is no list, or deeper."""
    if not isinstance(value, list):
        raise ValueError("it must be a list of values")
    for each in value:
        if not isinstance(each, list):
            yield each
        elif depth > 1:
            yield from _leaves(each, depth - 1)
        else:
            raise ValueError("its lists are nested deeper than its shape")


def _refuse_other_types(tensor: Tensor, flat: Sequence[Any], size: int, *, missing: bool) -> None:
    """Raise ``RowError`` for the first value that the datatype does not hold; null may stand for a missing value."""
    kinds: tuple[type, ...]
    if tensor.datatype == "BYTES":
        kinds, rule = (str,), "is no text, as the datatype BYTES says"
    elif tensor.datatype == "BOOL":
        kinds, rule = (bool,), "is not true or false, as the datatype BOOL says"
    elif tensor.datatype.startswith("FP"):
        kinds, rule = (int, float), f"is no number, as the datatype {tensor.datatype} says"
    else:
        kinds, rule = (int,), f"is no whole number of the datatype {tensor.datatype}"
    bounds = np.iinfo(DATATYPES[tensor.datatype]) if kinds == (int,) else None
    for place, value in enumerate(flat):
        if value is None and missing:
            continue
        right = value.__class__ in kinds and (bounds is None or bounds.min <= value <= bounds.max)
        if not right:
            raise RowError(place // max(size, 1), tensor.name, value, rule)


def _wrong_length(tensor: Tensor, found: int, expected: int) -> RowError:
    rule = f"values were sent, and the shape {list(tensor.shape)} has {expected}"
    return RowError(0, tensor.name, found, rule)
