"""The as-of join: what a feature table knew of a key at the time of a row, and nothing that came later.

A row gets the latest feature row with the same keys whose time is at or before the row's own, and not a time-to-live
before it or longer. Of several with one time the last in the source wins, whatever the blocks. Feature rows without a
key or a time are never found; rows without one find nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import ConfigError, suggestion
from rayline.features.joins.keys import is_text, key_arrays, time_array
from rayline.features.joins.tables import JoinSpec

if TYPE_CHECKING:
    import pyarrow as pa

Positions = NDArray[np.int64]


def join(
    rows: Any,
    features: Any,
    *,
    keys: Sequence[str],
    time: str,
    at: str,
    ttl: str | None = None,
    columns: Sequence[str] = (),
    prefix: str = "",
) -> Any:
    """Return the rows, in their order, with the columns of a feature table as of each row's time.

    Args:
        rows, features: a ``pyarrow.Table`` or a ``ray.data.Dataset`` each.
        keys: columns of both that identify what a row is about.
        time: the event time, a column of ``features``.
        at: the time of a row, a column of ``rows``.
        ttl: such as ``30d``; a feature row that old, or older, is not used.
        columns: what to take; none means all but keys and time.
        prefix: stands before their names.

    Returns:
        A ``pyarrow.Table`` where both are tables, else a ``ray.data.Dataset``.

    Raises:
        ConfigError: a column is not in the feature table, or would come twice.
        DataError: a key or time column is absent or cannot be read.
    """
    from rayline.config.history import microseconds

    lifetime = microseconds(ttl) if ttl is not None else None
    spec = JoinSpec("features", tuple(keys), time, at, lifetime, tuple(columns), prefix)
    if hasattr(rows, "iter_batches") or hasattr(features, "iter_batches"):
        from rayline.features.joins.exchange import joined

        return joined(rows, features, spec)
    return join_tables(rows, features, spec)


def join_tables(rows: pa.Table, features: pa.Table, spec: JoinSpec) -> pa.Table:
    """Return a table with the columns of a feature table, both in memory. Raises as ``join``."""
    refuse_twins(rows.column_names, features.column_names, spec)
    return Index.of(features, spec, key_texts(rows.schema, features.schema, spec)).joined(rows)


def taken(names: Sequence[str], spec: JoinSpec) -> tuple[str, ...]:
    """Return the columns that a join takes of a feature table. Raises ``ConfigError`` where it has not all of them."""
    for column in spec.columns:
        if column not in names:
            near = suggestion(column, names)
            raise ConfigError(f"join '{spec.name}' takes '{column}', which its table does not have. {near}")
    return spec.columns or tuple(name for name in names if name not in spec.keys and name != spec.time)


def refuse_twins(rows: Sequence[str], features: Sequence[str], spec: JoinSpec) -> None:
    """Raise ``ConfigError`` where the rows have a column already that the join would add."""
    twins = [name for name in taken(features, spec) if spec.prefix + name in rows]
    if twins:
        raise ConfigError(
            f"join '{spec.name}' adds a column '{spec.prefix}{twins[0]}', which the rows have already. Give the join a "
            "'prefix', or name under 'columns' what it shall take."
        )


def key_texts(rows: pa.Schema, features: pa.Schema, spec: JoinSpec) -> tuple[bool, ...]:
    """Return for each key whether it is compared as text: both sides must be numbers for it to be compared as one."""
    return tuple(
        any(name in side.names and is_text(side.field(name).type) for side in (rows, features)) for name in spec.keys
    )


@dataclass(frozen=True, slots=True)
class Index:
    """A feature table made ready to be looked up, as plain arrays that travel to workers.

    Attributes:
        texts: which keys are compared as texts.
        distinct: the distinct values of each key column.
        combined: for each key after the first, the codes of the combinations with those before it, ascending.
        starts: where each key's rows begin, int64 (keys + 1,).
        times: event times, ascending for each key.
        values: the columns to take, in the same order.
    """

    spec: JoinSpec
    texts: tuple[bool, ...]
    distinct: tuple[Any, ...]
    combined: tuple[NDArray[np.int64], ...]
    starts: NDArray[np.int64]
    times: NDArray[np.int64]
    values: pa.Table

    @classmethod
    def of(cls, features: pa.Table, spec: JoinSpec, texts: tuple[bool, ...]) -> Index:
        """Sort a feature table by key and time; rows of one time stay in their order. Raises as ``join``."""
        import pyarrow as pa

        what = f"feature table '{spec.name}'"
        names = taken(features.column_names, spec)
        arrays = key_arrays(features, spec.keys, texts, what)
        times, known = time_array(features, spec.time, what)
        encoded = [array.dictionary_encode() for array in arrays]
        codes = [each.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) for each in encoded]
        for code in codes:
            known &= code >= 0
        kept = np.flatnonzero(known)
        group, combined = codes[0][kept], []
        for each, code in zip(encoded[1:], codes[1:], strict=True):
            distinct, group = np.unique(group * len(each.dictionary) + code[kept], return_inverse=True)
            combined.append(distinct)
        times = times[kept]
        order = np.lexsort((*_created(features, spec, kept, what), times, group))
        groups = len(combined[-1]) if combined else len(encoded[0].dictionary)
        starts = np.searchsorted(group[order], np.arange(groups + 1))
        values = features.select(list(names)).rename_columns([spec.prefix + name for name in names])
        values = values.take(pa.array(kept[order])).combine_chunks()
        return cls(spec, texts, tuple(e.dictionary for e in encoded), tuple(combined), starts, times[order], values)

    def joined(self, rows: pa.Table) -> pa.Table:
        """Return a table of rows with the feature columns. Raises ``DataError`` or ``RowError``."""
        columns = self.columns_for(rows)
        for name in columns.column_names:
            rows = rows.append_column(columns.schema.field(name), columns.column(name))
        return rows

    def columns_for(self, rows: pa.Table) -> pa.Table:
        """Return the feature columns alone, one row for each of ``rows``, which need only keys and time."""
        import pyarrow as pa

        place = self._places(rows)
        return self.values.take(pa.array(place, mask=place < 0))

    def _places(self, rows: pa.Table) -> Positions:
        """Return for each row the place of its feature row, -1 where there is none."""
        groups = self._groups(rows)
        times, known = time_array(rows, self.spec.at, "the data")
        safe = np.maximum(groups, 0)
        first, end = (self.starts[safe], self.starts[safe + 1]) if len(self.starts) > 1 else (safe, safe)
        place = last_at_or_before(self.times, first, end, times)
        found = known & (groups >= 0) & (place >= first)
        if self.spec.ttl is not None and len(self.times):
            found &= self.times[np.maximum(place, 0)] > times - self.spec.ttl
        places: Positions = np.where(found, place, -1)
        return places

    def _groups(self, rows: pa.Table) -> Positions:
        """Return the number of each row's key, -1 where no feature row has it."""
        import pyarrow.compute as pc

        arrays = key_arrays(rows, self.spec.keys, self.texts, "the data")
        codes = [
            pc.index_in(array, value_set=known, skip_nulls=True).fill_null(-1).to_numpy().astype(np.int64)
            for array, known in zip(arrays, self.distinct, strict=True)
        ]
        group: Positions = codes[0]
        for code, known, distinct in zip(codes[1:], self.distinct[1:], self.combined, strict=True):
            if not len(distinct):
                return np.full(rows.num_rows, -1, dtype=np.int64)
            wanted = group * len(known) + code
            place = np.minimum(np.searchsorted(distinct, wanted), len(distinct) - 1)
            group = np.where((group >= 0) & (code >= 0) & (distinct[place] == wanted), place, -1)
        return group


def _created(features: pa.Table, spec: JoinSpec, kept: Positions, what: str) -> tuple[NDArray[np.int64], ...]:
    """Return what orders feature rows of one time, beyond their order in the source."""
    if spec.created is None:
        return ()
    times, known = time_array(features, spec.created, what)
    return (np.where(known, times, np.iinfo(np.int64).min)[kept],)


def last_at_or_before(
    times: NDArray[np.int64], first: Positions, end: Positions, wanted: NDArray[np.int64]
) -> Positions:
    """Return for each (first, end) the last place in that stretch of ascending times that is not after ``wanted``.

    Where there is none, the result is ``first - 1``. All searches halve their stretch together.
    """
    if not len(times):
        return first - 1
    low, high = first.copy(), end.copy()
    while True:
        open_ = low < high
        if not open_.any():
            return low - 1
        middle = (low + high) >> 1
        later = times[np.minimum(middle, len(times) - 1)] > wanted
        high = np.where(open_ & later, middle, high)
        low = np.where(open_ & ~later, middle + 1, low)
