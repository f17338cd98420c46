"""The family of kinds: how one declared feature is fitted and becomes numbers. One file each, one conformance suite."""

from rayline.errors import SchemaError, suggestion
from rayline.features.kinds import (
    boolean,
    categorical,
    datetime,
    function,
    image,
    lookup,
    numeric,
    sklearn,
    text,
    vector,
)
from rayline.features.kinds.seam import Feature, FittedColumn, Kind, Observed

__all__ = ["KINDS", "Feature", "FittedColumn", "Kind", "Observed", "kind_named"]

_FILES = (numeric, categorical, boolean, datetime, text, vector, image, function, sklearn, lookup)

KINDS: dict[str, Kind] = {each.KIND.name: each.KIND for each in _FILES}


def kind_named(name: str) -> Kind:
    """Return a kind. Raises ``SchemaError`` with the nearest name."""
    if name not in KINDS:
        raise SchemaError(f"column kind '{name}' is unknown. {suggestion(name, KINDS)}")
    return KINDS[name]
