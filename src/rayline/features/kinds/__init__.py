"""The family of kinds: how one declared feature is fitted and becomes numbers. One file each, one conformance suite.

What every kind answers to a value that is no ordinary one (``refused``: ``RowError`` with row, column, value and rule):

| kind | missing (null, NaN, empty text) | never seen in the fit | infinite, of the wrong type | extreme |
| --- | --- | --- | --- | --- |
| numeric | ``impute``; with ``flag`` also 1 | as any number | refused, as from 1e100 on | cut at 1e6 deviations |
| ... ``quantile``, ``bins`` | as ``impute`` | as any number | refused | 0 or 1; the outer bin |
| one_hot | an output of its own | an output of its own | refused | |
| ordinal, index | -2, 0 | -1, 1 | refused | |
| frequency | the share of missing rows | 0 | refused | |
| hashing | zeros | its bucket, as any level | refused | |
| target | a level of its own | the overall mean | refused | |
| boolean | the share of true rows | | refused | |
| datetime | zeros | as any date | refused | cut at 1e6 deviations |
| text | zeros | its buckets, as any n-gram | refused | length 1, however long |
| vector, image | zeros | | refused, for one element too | cut at 1e6 deviations, or 3e38 unscaled |

An array is refused as well where it has another shape, or a null or NaN among its elements.
"""

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
