"""A fitted scikit-learn transformer as text, and back, by skops and under a list of our own.

Nothing is constructed before every type in the file has been found on the list here: classes of scikit-learn, NumPy
arrays and plain values.
"""

from __future__ import annotations

import base64
from typing import Any

from rayline.errors import BundleError, ConfigError
from rayline.libraries.skops_list import PLAIN_LOADERS, PLAIN_TYPES, Allowed, dumps, loads

WHAT = "a kept transformer"
# What SplineTransformer holds.
FUNCTIONS = frozenset({"scipy._lib.array_api_compat.numpy._aliases.asarray"})
TYPES = PLAIN_TYPES | FUNCTIONS | {"scipy.interpolate._bsplines.BSpline"}


def packed(transformer: Any, place: str) -> str:
    """Return a fitted transformer as base64 text.

    Raises:
        ConfigError: it holds what the list does not; the message names it.
    """
    text = base64.b64encode(dumps(transformer)).decode("ascii")
    try:
        unpacked(text)
    except BundleError as error:
        raise ConfigError(
            f"{place} cannot be kept without pickle: {error} Use another transformer, or a function of your own."
        ) from error
    return text


def unpacked(text: str) -> Any:
    """Return the transformer of ``packed``'s text. Raises ``BundleError`` where it is damaged or not on the list."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise BundleError(f"{WHAT} is damaged: {error}.") from error
    return loads(data, TRANSFORMERS, WHAT)


def _permits(loader: str, name: str) -> bool:
    if loader == "FunctionNode":
        return name in FUNCTIONS
    return name in TYPES or (loader == "ObjectNode" and name.startswith("sklearn."))


TRANSFORMERS = Allowed(PLAIN_LOADERS | {"FunctionNode"}, _permits)
