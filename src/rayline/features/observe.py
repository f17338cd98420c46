"""What every raw column is asked in the one pass over the training rows, by the kind that it is read as."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rayline.features.reading.arrow_values import Values
from rayline.features.schemas.schema import ColumnSchema
from rayline.features.sketches import Distinct, Levels, Moments, Quantiles, Sketch
from rayline.features.sketches.quantiles import grid_of
from rayline.features.state import ColumnState

PIECE = 1 << 18  # elements of arrays that are looked at together


def observe(column: ColumnSchema, values: Values, *, compiled: bool = False) -> ColumnState:
    """Return what some rows say of one raw column; ``compiled`` only decides which code does it."""
    look = _LOOKS.get(column.kind)
    if compiled:
        look = _COMPILED.get(column.kind, look)
    return ColumnState(len(values.missing), values.gap_count, look(column, values) if look else {})


def _numbers(column: ColumnSchema, values: Values) -> dict[str, Sketch]:
    present = values.present.astype(np.float64, copy=False)
    center, unit = grid_of(column.minimum, column.maximum, column.center)
    return {
        "moments": Moments.of(present, center),
        "quantiles": Quantiles.of(present, center, unit),
        "distinct": Distinct.of(present),
    }


def _numbers_compiled(column: ColumnSchema, values: Values) -> dict[str, Sketch]:
    from rayline.features.kernels import look

    data = np.ascontiguousarray(values.data, dtype=np.float64)
    return look(data, values.missing, *grid_of(column.minimum, column.maximum, column.center))


def _truths(column: ColumnSchema, values: Values) -> dict[str, Sketch]:
    return {"moments": Moments.of(values.present)}


def _levels(column: ColumnSchema, values: Values) -> dict[str, Sketch]:
    return _counted(values, np.bincount(values.codes + 1, minlength=len(values.texts) + 1)[1:])


def _levels_compiled(column: ColumnSchema, values: Values) -> dict[str, Sketch]:
    from rayline.features.kernels import count_codes

    tally = np.zeros(len(values.texts) + 1, dtype=np.int64)
    count_codes(values.codes, tally)
    return _counted(values, tally[:-1])


def _counted(values: Values, tally: NDArray[np.int64]) -> dict[str, Sketch]:
    counts = {text: count for text, count in zip(values.texts, tally.tolist(), strict=True) if count}
    return {"levels": Levels.of(counts)}


def _words(column: ColumnSchema, values: Values) -> dict[str, Sketch]:
    """Return the moments of the number of words, parted by white space."""
    words = np.array([len(text.split()) for text in values.texts], dtype=np.float64)
    return {"moments": Moments.of(words[values.codes[~values.missing]])}


def _norms(column: ColumnSchema, values: Values) -> dict[str, Sketch]:
    """Return the moments of the arrays' Euclidean norms."""
    present, step = values.present, max(PIECE // max(values.data.shape[1], 1), 1)
    parts = [present[start : start + step].astype(np.float64) for start in range(0, len(present), step)]
    norms = [np.sqrt(np.square(part).sum(axis=1)) for part in parts]
    return {"moments": Moments.of(np.concatenate([np.zeros(0), *norms]))}


_LOOKS: dict[str, Callable[[ColumnSchema, Values], dict[str, Sketch]]] = {
    "numeric": _numbers,
    "datetime": _numbers,
    "boolean": _truths,
    "categorical": _levels,
    "text": _words,
    "vector": _norms,
    "image": _norms,
}

_COMPILED: dict[str, Callable[[ColumnSchema, Values], dict[str, Sketch]]] = {
    "numeric": _numbers_compiled,
    "datetime": _numbers_compiled,
    "categorical": _levels_compiled,
}
