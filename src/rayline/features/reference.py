"""Reference statistics of the training part: what live data is compared with later. Exact, save the bin edges.

Bin edges are quantiles of a sample: the training rows with the smallest hashes, the same rows however blocks are cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rayline.features import arrow_values
from rayline.features.canonical import level_order
from rayline.features.schema import Schema
from rayline.features.state import ColumnState, FitState

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

FORMAT = 1
SAMPLE_ROWS = 5_000
BINS = 10
MOST_LEVELS = 100


def smallest(
    table: pa.Table, hashes: NDArray[np.uint64], rows: int = SAMPLE_ROWS
) -> tuple[pa.Table, NDArray[np.uint64]]:
    """Return the rows with the smallest hashes, and these hashes, in the order of the hashes."""
    order = np.argsort(hashes, kind="stable")[:rows]
    return table.take(order), hashes[order]


def reference_of(schema: Schema, state: FitState, sample: pa.Table) -> dict[str, Any]:
    """Return the reference statistics as JSON-ready values.

    ``columns`` has one entry per input column and ``target`` one more. A number has ``mean, std, min, max`` and
    ``edges`` (up to 9 inner edges, ascending) with ``shares`` of the bins between them (one more than edges); a value
    on an edge belongs to the bin above. A level has its share in ``levels``, and those not listed ``other``.
    ``missing`` is a share throughout.
    """
    kinds: dict[str, str] = {column.name: column.kind for column in schema.columns}
    kinds[schema.target] = "numeric" if schema.task == "regression" else "categorical"
    described = {name: _describe(kind, state.columns[name], sample.column(name)) for name, kind in kinds.items()}
    target = described.pop(schema.target)
    return {"format": FORMAT, "rows": state.columns[schema.target].rows, "target": target, "columns": described}


def _describe(kind: str, state: ColumnState, array: Any) -> dict[str, Any]:
    rows = max(state.rows, 1)
    described: dict[str, Any] = {"kind": kind, "missing": state.missing / rows}
    if kind == "categorical":
        ranked = sorted(state.counts, key=lambda text: (-state.counts[text], level_order(text)))
        kept = ranked[:MOST_LEVELS]
        described["levels"] = {text: state.counts[text] / rows for text in sorted(kept, key=level_order)}
        described["other"] = sum(state.counts[text] for text in ranked[MOST_LEVELS:]) / rows
        return described
    moments = state.moments["value"]
    if not moments.count:
        return described
    described |= {"mean": moments.mean, "std": moments.std, "min": moments.minimum, "max": moments.maximum}
    if kind == "boolean":
        return described
    values = arrow_values.READERS[kind](array)
    present = np.sort(values.data[~values.missing].astype(np.float64))
    edges = np.unique(np.quantile(present, np.arange(1, BINS) / BINS, method="lower")) if len(present) else present
    counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    described["edges"] = edges.tolist()
    described["shares"] = (counts / max(len(present), 1)).tolist()
    return described
