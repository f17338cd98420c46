"""Read arrays of one shape: from an Arrow column of lists or tensors in one vectorised pass, and from one request.

An Arrow column may hold fixed-size lists, lists (nested or flat), Arrow's fixed-shape tensors or Ray Data's tensors of
fixed or variable shape, which are lists underneath and are read without importing Ray. A flat array of the right number
of elements is as good as a nested one. An array with another number of elements, or with one that is null, NaN or
infinite, is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.features.reading.values import Values

if TYPE_CHECKING:
    import pyarrow as pa

Shape = tuple[int, ...]

LIMIT = 1e100  # as for single numbers


def arrays(array: pa.ChunkedArray | pa.Array, shape: Shape | None = None) -> Values:
    """Read arrays as rows of numbers: float32 (n, size) where that is exact, else float64, in C order.

    Args:
        array: the column.
        shape: of each row's array; None means the one that most rows have.
    """
    array = _one(array)
    shape = _commonest(array) if shape is None else shape
    size = math.prod(shape or (0,))
    missing = array.is_null().to_numpy(zero_copy_only=False)
    array, right = _storage(array, shape)
    if shape is None or not _is_list(array.type):
        return Values(np.zeros((len(array), size)), missing, ~missing)
    depth = _depth(array.type)
    found = _gathered(array, shape if depth == len(shape) else (size,)) if depth in (1, len(shape)) else None
    if found is None:
        return Values(np.zeros((len(array), size)), missing, ~missing)
    data, sound = found
    return Values(data, missing, ~missing & ~(sound & right))


def common_shape(array: pa.ChunkedArray | pa.Array) -> Shape | None:
    """Return the shape that most arrays of a column have, or None where it holds none."""
    import pyarrow as pa

    kind = array.type
    holds = pa.types.is_nested(kind) or pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType)
    return _commonest(_one(array)) if holds else None


def shape_of(array: pa.ChunkedArray | pa.Array) -> Shape | None:
    """Return the shape that all arrays of a column share, or None where they do not, or hold no finite numbers."""
    shape = common_shape(array)
    return None if not shape or not math.prod(shape) or arrays(array, shape).wrong.any() else shape


def one_array(value: object, shape: Shape) -> NDArray[np.float64] | None:
    """Return one request value as float64 (size,), or None where it means 'missing' (None, NaN).

    Raises:
        ValueError: it is no list, tuple or array of finite numbers of that shape, nor a flat one of that size.
    """
    if value is None or (isinstance(value, float) and value != value):
        return None
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise ValueError("no array")
    found = np.asarray(value)
    if found.dtype.kind not in "biuf" or (found.shape != shape and found.shape != (math.prod(shape),)):
        raise ValueError("no such array")
    numbers: NDArray[np.float64] = found.astype(np.float64, copy=False).reshape(-1)
    if not (np.abs(numbers) < LIMIT).all():
        raise ValueError("not finite")
    return numbers


def _one(array: Any) -> Any:
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array


def _storage(array: Any, shape: Shape | None) -> tuple[Any, NDArray[np.bool_]]:
    """Return the lists underneath, and which rows' own shape is right (all, where only the lists tell)."""
    import pyarrow as pa

    right = np.ones(len(array), dtype=np.bool_)
    declared = _declared(array.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if _is_shaped(array.type):
        dims = len(shape or ())
        lengths = array.field("shape").value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        right = lengths == dims
        for axis in range(dims):
            at = _element(array.field("shape"), axis, right)
            right = right & (at == (shape or ())[axis])
        array = array.field("data")
    elif declared is not None and shape is not None:
        right &= declared == shape or len(declared) == 1 or len(shape) == 1
    return array, right


def _element(lists: Any, place: int, present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return one element of each list, -1 where there is none."""
    found = np.full(len(lists), -1, dtype=np.int64)
    starts = lists.offsets.to_numpy(zero_copy_only=False)[:-1]
    found[present] = lists.values.to_numpy(zero_copy_only=False)[starts[present] + place]
    return found


def _gathered(array: Any, shape: Shape) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
    """Return each list's elements side by side (n, size) and which lists are sound, or None where they are no numbers.

    ``shape`` has one length for each level of lists.
    """
    if not shape:
        return _numbers(array)
    inner = _gathered(array.values, shape[1:])
    if inner is None:
        return None
    data, sound = inner
    starts, lengths = _bounds(array)
    good = (lengths == shape[0]) & array.is_valid().to_numpy(zero_copy_only=False)
    first = int(starts[0]) if len(starts) else 0
    if good.all() and np.array_equal(starts, first + np.arange(len(starts)) * shape[0]):
        chosen: Any = slice(first, first + len(starts) * shape[0])
    else:
        if not len(data):
            data, sound = np.zeros((1, data.shape[1])), np.zeros(1, dtype=np.bool_)
        # Lists of another length are wrong whatever stands there, but must point at something.
        places = np.where(good, starts, 0)[:, np.newaxis] + np.arange(shape[0])
        chosen = np.minimum(places.reshape(-1), len(data) - 1)
    data, sound = data[chosen], sound[chosen]
    return data.reshape(len(array), shape[0] * data.shape[1]), good & sound.reshape(len(array), shape[0]).all(axis=1)


def _bounds(array: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each list starts in ``array.values``, and its length."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        return (np.arange(len(array)) + array.offset) * size, np.full(len(array), size)
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    if _is_view(array.type):
        return offsets, array.sizes.to_numpy(zero_copy_only=False).astype(np.int64)
    return offsets[:-1], np.diff(offsets)


def _numbers(array: Any) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif pa.types.is_null(kind):
        return np.zeros((len(array), 1)), np.zeros(len(array), dtype=np.bool_)
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return None
    narrow = kind.bit_width <= 16 or pa.types.is_float32(kind)
    array = array.cast(pa.float32() if narrow else pa.float64(), safe=False)
    data = pc.fill_null(array, np.nan).to_numpy(zero_copy_only=False)
    return data.reshape(-1, 1), np.isfinite(data) if narrow else np.abs(data) < LIMIT


def _commonest(array: Any) -> Shape | None:
    """Return the shape of most rows, the smallest among equals; None where the column holds no lists."""
    import pyarrow as pa

    declared = _declared(array.type)
    if declared is not None:
        return declared
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if _is_shaped(array.type):
        shapes = [tuple(each) for each in array.field("shape").drop_null().to_pylist()]
        return min(set(shapes), key=lambda shape: (-shapes.count(shape), shape)) if shapes else None
    return tuple(_lengths(array)) if _is_list(array.type) else None


def _declared(kind: Any) -> Shape | None:
    """Return the shape that a tensor type has for all rows, or None where it has none, or one that is open."""
    shape = getattr(kind, "shape", None)
    return None if shape is None or None in shape else tuple(int(length) for length in shape)


def _lengths(array: Any) -> Sequence[int]:
    if not _is_list(array.type):
        return ()
    lengths = _bounds(array)[1][array.is_valid().to_numpy(zero_copy_only=False)]
    found = int(np.bincount(lengths).argmax()) if len(lengths) else 0
    return (found, *_lengths(array.flatten()))


def _depth(kind: Any) -> int:
    return 1 + _depth(kind.value_type) if _is_list(kind) else 0


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    plain = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(plain or _is_view(kind))


def _is_view(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def _is_shaped(kind: Any) -> bool:
    """Tell Ray's storage of tensors of variable shape: flat data beside each row's shape."""
    import pyarrow as pa

    return bool(pa.types.is_struct(kind)) and {field.name for field in kind} == {"data", "shape"}
