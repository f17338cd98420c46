"""Reference statistics of the training part: what live data is compared with later. Exact, save the places of edges.

They come of the same one pass as the fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rayline.features.reading.canonical import level_order
from rayline.features.schemas.schema import Schema
from rayline.features.state import ColumnState, FitState

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

FORMAT = 2
SAMPLE_ROWS = 5_000
BINS = 10
MOST_LEVELS = 100


def smallest(
    table: pa.Table, hashes: NDArray[np.uint64], rows: int = SAMPLE_ROWS
) -> tuple[pa.Table, NDArray[np.uint64]]:
    """Return the rows with the smallest hashes, and these hashes, in the order of the hashes."""
    order = np.argsort(hashes, kind="stable")[:rows]
    return table.take(order), hashes[order]


def reference_of(schema: Schema, state: FitState) -> dict[str, Any]:
    """Return the reference statistics as JSON-ready values.

    ``columns`` has one entry per raw column and ``target`` one more. A number has ``mean, std, min, max, distinct`` and
    ``edges`` (up to 9 inner edges, ascending) with ``shares`` of the bins between them (one more than edges); a value
    on an edge belongs to the bin above. A level has its share in ``levels``, and those not listed ``other``.
    ``missing`` is a share throughout.
    """
    kinds: dict[str, str] = {column.name: column.kind for column in schema.columns}
    kinds[schema.target] = "numeric" if schema.task == "regression" else "categorical"
    described = {name: _describe(kind, state.columns[name]) for name, kind in kinds.items()}
    target = described.pop(schema.target)
    return {"format": FORMAT, "rows": state.columns[schema.target].rows, "target": target, "columns": described}


def _describe(kind: str, state: ColumnState) -> dict[str, Any]:
    rows = max(state.rows, 1)
    described: dict[str, Any] = {"kind": kind, "missing": state.missing / rows}
    if kind == "categorical":
        return described | _levels(state, rows)
    moments = state.moments
    if not moments.count:
        return described
    described |= {"mean": moments.mean, "std": moments.std, "min": moments.minimum, "max": moments.maximum}
    if kind in ("numeric", "datetime"):
        edges, shares = state.quantiles.bins(BINS)
        described |= {"distinct": state.distinct.count, "edges": list(edges), "shares": list(shares)}
    return described


def _levels(state: ColumnState, rows: int) -> dict[str, Any]:
    counts = state.levels.counts
    kept = sorted(counts, key=lambda text: (-counts[text], level_order(text)))[:MOST_LEVELS]
    listed = {text: counts[text] / rows for text in sorted(kept, key=level_order)}
    other = state.levels.rows - sum(counts[text] for text in kept)
    return {"levels": listed, "other": other / rows, "distinct": len(counts)}
