"""The functions that ``to_sklearn`` puts into a ``FunctionTransformer``, where scikit-learn has no element of its own.

They are importable by name, so that the transformer can be pickled. Each takes a frame or array of one or more columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.features.kinds.seam import FittedColumn
from rayline.features.reading import canonical
from rayline.features.schemas.schema import Schema

Doubles = NDArray[np.float64]


def numbers(frame: Any) -> Doubles:
    """Return float64 (n, columns) of numbers and booleans of any pandas type, NaN where missing."""
    import pandas as pd

    columns = frame if isinstance(frame, pd.DataFrame) else pd.DataFrame(frame)
    found: Doubles = columns.astype("float64").to_numpy()
    return found


def signed_log(values: Any) -> Doubles:
    """Return ``sign(x) * log(1 + |x|)``."""
    found: Doubles = np.copysign(np.log1p(np.abs(values)), values)
    return found


def texts(frame: Any) -> NDArray[Any]:
    """Return the canonical texts of one column of levels: object (n, 1), NaN where missing."""
    column = np.asarray(frame, dtype=object).reshape(-1)
    known = {value: _text(value) for value in set(column.tolist())}
    return np.array([known[value] for value in column.tolist()], dtype=object).reshape(-1, 1)


def slots(frame: Any, levels: Sequence[str]) -> NDArray[np.int64]:
    """Return places in ``levels``: int64 (n, 1), ``len(levels)`` for any other level, one more where missing."""
    places: dict[Any, int] = {level: place for place, level in enumerate(levels)}
    found = [len(levels) + 1 if text != text else places.get(text, len(levels)) for text in texts(frame)[:, 0]]
    return np.array(found, dtype=np.int64).reshape(-1, 1)


def looked_up(frame: Any, levels: Sequence[str], table: Sequence[Sequence[float]]) -> Doubles:
    """Return each level's row of ``table``, whose last two rows are for an unknown and for a missing one."""
    found: Doubles = np.asarray(table, dtype=np.float64)[slots(frame, levels)[:, 0]]
    return found


def by_column(frame: Any, column: FittedColumn, schema: Schema) -> Doubles:
    """Return what a fitted column makes of a frame that has its inputs."""
    import pyarrow as pa

    from rayline.features.transform import FittedFeatureSet

    table = pa.Table.from_pandas(frame, preserve_index=False)
    return FittedFeatureSet(schema, (column,)).transform(table).astype(np.float64)


@dataclass(frozen=True)
class Named:
    """Output names that do not depend on the input's: ``FunctionTransformer(feature_names_out=...)`` takes it."""

    names: tuple[str, ...]

    def __call__(self, transformer: Any, inputs: Any) -> NDArray[Any]:
        return np.array(self.names, dtype=object)


def _text(value: Any) -> Any:
    text = None if type(value).__name__ in ("NAType", "NaTType") else canonical.level_text(value)
    return np.nan if text is None else text
