"""A fitted scikit-learn transformer as text, and back, by skops and under a list of our own.

skops runs no pickle, yet it would import what the file names. So nothing is constructed before every type in the file
has been found on the list here: classes of scikit-learn, NumPy arrays and plain values.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

from rayline.errors import BundleError, ConfigError

LOADERS = (
    *("ObjectNode", "DictNode", "ListNode", "TupleNode", "SetNode", "JsonNode", "NdArrayNode", "DTypeNode"),
    *("TypeNode", "RandomStateNode", "SparseMatrixNode", "FunctionNode"),
)
TYPES = frozenset(
    {
        *("numpy.dtype", "numpy.ndarray", "numpy.float64", "numpy.float32", "numpy.int64", "numpy.int32", "numpy.bool"),
        *("numpy.bool_", "numpy.matrix", "numpy.random.mtrand.RandomState"),
        *("builtins.dict", "builtins.list", "builtins.tuple", "builtins.set", "builtins.str", "builtins.int"),
        *("builtins.float", "builtins.bool", "builtins.slice", "builtins.NoneType"),
        *("scipy.sparse._csr.csr_matrix", "scipy.sparse._csc.csc_matrix"),
        # What SplineTransformer holds.
        *("scipy.interpolate._bsplines.BSpline", "scipy._lib.array_api_compat.numpy._aliases.asarray"),
    }
)
FUNCTIONS = frozenset({"scipy._lib.array_api_compat.numpy._aliases.asarray"})


def packed(transformer: Any, place: str) -> str:
    """Return a fitted transformer as base64 text.

    Raises:
        ConfigError: it holds what the list does not; the message names it.
    """
    from skops import io as skops

    text = base64.b64encode(skops.dumps(transformer)).decode("ascii")
    try:
        unpacked(text)
    except BundleError as error:
        raise ConfigError(
            f"{place} cannot be kept without pickle: {error} Use another transformer, or a function of your own."
        ) from error
    return text


def unpacked(text: str) -> Any:
    """Return the transformer of ``packed``'s text. Raises ``BundleError`` where it is damaged or not on the list."""
    from skops import io as skops

    try:
        data = base64.b64decode(text, validate=True)
        schema = json.loads(zipfile.ZipFile(io.BytesIO(data)).read("schema.json"))
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"a kept transformer is damaged: {error}.") from error
    refused = sorted({each for each in _names(schema) if not _allowed(*each)})
    if refused:
        loader, name = refused[0]
        raise BundleError(f"it holds {name} ({loader}), which is not on the list of what may load.")
    try:
        return skops.loads(data, trusted=sorted(TYPES))
    except (skops.exceptions.UntrustedTypesFoundException, TypeError, ValueError, KeyError, AttributeError) as error:
        raise BundleError(f"a kept transformer cannot be loaded: {error}") from error


def _names(node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if "__loader__" in node:
            yield str(node["__loader__"]), f"{node.get('__module__')}.{node.get('__class__')}"
        for each in node.values():
            yield from _names(each)
    elif isinstance(node, list):
        for each in node:
            yield from _names(each)


def _allowed(loader: str, name: str) -> bool:
    if loader not in LOADERS:
        return False
    if loader == "FunctionNode":
        return name in FUNCTIONS
    return name in TYPES or (loader == "ObjectNode" and name.startswith("sklearn."))
