"""How many numbers a feature state says that it makes: held against a bound before anything of that size is made.

Nearly everything in a state is as long as what stands in it. Arrays and buckets alone say a size by a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rayline.errors import SchemaError, shown

MOST_NUMBERS = 2**22
"""Of all features together: a picture of 1,024 by 1,024 in three colours is three quarters of it."""
LONGEST_GRAM = 64


def refuse_absurd_sizes(raw: Mapping[str, Any]) -> None:
    """Raise ``SchemaError`` where a state's features make more numbers than any network takes.

    Args:
        raw: the values of ``FittedFeatureSet.to_json``; what else is wrong with them is not looked at.
    """
    total = 0
    for column in (*_columns(raw), *_columns(raw.get("schema"))):
        for key in ("shape", "buckets", "ngrams"):
            sizes = column.get(key)
            if sizes is None:
                continue
            numbers = sizes if isinstance(sizes, list) else [sizes]
            if not all(isinstance(size, int) and 0 < size <= MOST_NUMBERS for size in numbers):
                raise SchemaError(f"'{key}' {shown(sizes)} is no size of a feature. Make it anew with `--fresh`.")
            if key == "ngrams" and max(numbers, default=0) > LONGEST_GRAM:
                raise SchemaError(f"n-grams of {shown(sizes)} are longer than {LONGEST_GRAM}.")
            total += 0 if key == "ngrams" else math.prod(numbers)
    if total > 2 * MOST_NUMBERS:  # a state names each array twice, in its schema and as a feature
        raise SchemaError(f"the features make {total:,} numbers, and may make {MOST_NUMBERS:,} each way.")


def _columns(raw: object) -> list[Mapping[str, Any]]:
    columns = raw.get("columns") if isinstance(raw, Mapping) else None
    return [each for each in columns if isinstance(each, Mapping)] if isinstance(columns, list) else []
