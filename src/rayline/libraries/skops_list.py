"""Objects of scikit-learn as skops files, read under a list of our own.

skops runs no pickle, yet it would import what the file names, and takes its list of what to trust from the file. So
nothing is constructed before every type in the file has been found on the list that the caller gives.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rayline.errors import BundleError

PLAIN_LOADERS = frozenset(
    {
        *("ObjectNode", "DictNode", "ListNode", "TupleNode", "SetNode", "JsonNode", "NdArrayNode", "DTypeNode"),
        *("TypeNode", "RandomStateNode", "SparseMatrixNode"),
    }
)
PLAIN_TYPES = frozenset(
    {
        *("numpy.dtype", "numpy.ndarray", "numpy.float64", "numpy.float32", "numpy.int64", "numpy.int32", "numpy.bool"),
        *("numpy.bool_", "numpy.matrix", "numpy.random.mtrand.RandomState"),
        *("builtins.dict", "builtins.list", "builtins.tuple", "builtins.set", "builtins.str", "builtins.int"),
        *("builtins.float", "builtins.bool", "builtins.slice", "builtins.NoneType"),
        *("scipy.sparse._csr.csr_matrix", "scipy.sparse._csc.csc_matrix"),
    }
)
MOST_UNPACKED = 100  # times the file's own size: an archive that grows more is a bomb
ALWAYS_UNPACKED = 64 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a file may hold.

    Attributes:
        loaders: skops' own readers that may be asked.
        permits: whether a reader may make the thing of this dotted name.
    """

    loaders: frozenset[str]
    permits: Callable[[str, str], bool]


def dumps(value: Any) -> bytes:
    """Return an object as a skops file. Raises what skops does of an object that it cannot write."""
    from skops import io as skops

    content: bytes = skops.dumps(value)
    return content


def loads(content: bytes, allowed: Allowed, what: str) -> Any:
    """Return the object of a skops file.

    Args:
        content: the file.
        allowed: what it may hold.
        what: it is, in messages: ``a kept transformer``.

    Raises:
        BundleError: the file is damaged, or holds what is not allowed.
    """
    from skops import io as skops

    names = sorted(set(_names(_schema(content, what))))
    for loader, name in names:
        if loader not in allowed.loaders or not allowed.permits(loader, name):
            raise BundleError(f"it holds {name} ({loader}), which is not on the list of what may load.")
    try:
        return skops.loads(content, trusted=[name for _, name in names])
    except Exception as error:  # a damaged state raises whatever the class of the moment does
        raise BundleError(f"{what} cannot be loaded: {error}") from error


def _schema(content: bytes, what: str) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > max(ALWAYS_UNPACKED, MOST_UNPACKED * len(content)):
                raise BundleError(f"{what} is damaged: {len(content):,} bytes unpack to {unpacked:,}.")
            return json.loads(archive.read("schema.json"))
    except (ValueError, KeyError, RecursionError, NotImplementedError, zipfile.BadZipFile) as error:
        raise BundleError(f"{what} is damaged: {error}.") from error


def _names(schema: Any) -> Iterator[tuple[str, str]]:
    """Yield the reader and the dotted name of every node, at any depth."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "__loader__" in node:
                yield str(node["__loader__"]), f"{node.get('__module__')}.{node.get('__class__')}"
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
