"""Rows meet their keys' history on Ray: sent to partitions by key, worked on there, and the answers sent back.

Only keys, times and what is looked at travel; the rows themselves stay in their blocks and in their order, so nothing
has to be sorted again. Pieces go through the object store, which spills to disk: a worker holds one partition at a
time. What a partition answers depends on its rows in the order of the source alone, not on blocks or on how many
partitions there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rayline.errors import DataError, RaylineError, RowError
from rayline.features.blocks import in_blocks, quiet
from rayline.features.hashing import row_hashes
from rayline.features.joins.join import Index, key_texts, refuse_twins, taken
from rayline.features.joins.keys import is_text, key_arrays
from rayline.features.joins.tables import JoinSpec
from rayline.features.joins.windows import WindowGroup, refuse_unfit, window_columns

if TYPE_CHECKING:
    import pyarrow as pa

BROADCAST_BYTES = 64 * 2**20  # a feature table up to this goes whole to whoever joins
PARTITION_BYTES = 64 * 2**20
GROUP_BYTES = 64 * 2**20  # of blocks that one task cuts into pieces
MOST_PARTITIONS = 512

Work = Callable[["pa.Table", "pa.Table | None"], "pa.Table"]
"""Gets a partition's rows and its feature rows, each in the order of the source; answers a row for each row."""


def joined(rows: Any, features: Any, spec: JoinSpec, *, broadcast_bytes: int | None = None) -> Any:
    """Return a ``ray.data.Dataset`` of rows with the columns of a feature table as of each row's time, in their order.

    A small feature table is sent whole to the workers, and the result is lazy; a large one is exchanged by key.

    Args:
        rows, features: a ``ray.data.Dataset`` or a ``pyarrow.Table`` each.
        broadcast_bytes: how large a feature table may be to be sent whole, by default 64 MiB; changes nothing in the
            result.

    Raises:
        ConfigError, DataError: as ``rayline.features.joins.join.join``.
    """
    rows = rows if hasattr(rows, "iter_batches") else in_blocks(rows)
    left, right = _schema(rows), features.schema if not hasattr(features, "iter_batches") else _schema(features)
    refuse_twins(left.names, right.names, spec)
    texts = key_texts(left, right, spec)
    needed = list(dict.fromkeys((*spec.keys, spec.time, *taken(right.names, spec))))
    needed += [spec.created] if spec.created is not None and spec.created not in needed else []
    slim = features.select(needed) if not hasattr(features, "iter_batches") else features.select_columns(needed)
    if not hasattr(slim, "iter_batches"):
        if slim.nbytes <= (BROADCAST_BYTES if broadcast_bytes is None else broadcast_bytes):
            return _broadcast(rows, Index.of(slim, spec, texts))
        slim = in_blocks(slim)
    work = _JoinPartition(spec, texts)
    return exchange(rows, spec.keys, texts, (*spec.keys, spec.at), work, features=slim)


def windowed(rows: Any, group: WindowGroup) -> Any:
    """Return a ``ray.data.Dataset`` with the columns of a group of windows, in its order.

    Raises:
        ConfigError, RowError: as ``rayline.features.joins.windows.with_windows``.
    """
    schema = _schema(rows)
    refuse_unfit(schema.names, group)
    texts = tuple(is_text(schema.field(name).type) for name in group.by)
    columns = tuple(dict.fromkeys((*group.by, group.time, *group.sources)))
    return exchange(rows, group.by, texts, columns, _WindowPartition(group))


def exchange(
    rows: Any,
    keys: Sequence[str],
    texts: tuple[bool, ...],
    columns: tuple[str, ...],
    work: Work,
    *,
    features: Any = None,
    partitions: int | None = None,
) -> Any:
    """Return a Dataset of rows, in their order, with the columns that ``work`` answers for the partitions.

    Args:
        rows: a ``ray.data.Dataset``; it is executed once, and kept.
        keys, texts: what partitions are made by, and which keys are compared as texts.
        columns: what of ``rows`` travels to the partitions.
        work: runs once for each partition, in a task.
        features: a ``ray.data.Dataset`` that is partitioned by the same keys, or None.
        partitions: how many; by the size of the data where None. Changes nothing in the result.
    """
    import ray.data

    with quiet():
        mine, theirs = _Side.of(rows), _Side.of(features) if features is not None else None
        size = mine.bytes + (theirs.bytes if theirs else 0)
        count = partitions or min(max(2, -(-size // PARTITION_BYTES)), MOST_PARTITIONS)
        cut = ray.remote(_cut).options(num_returns=count)
        pieces = [_listed(cut.remote(_Cut(tuple(keys), texts, columns), count, *group)) for group in mine.groups]
        their_cut = _Cut(tuple(keys), texts, None)
        foreign = [_listed(cut.remote(their_cut, count, *group)) for group in theirs.groups] if theirs else []
        answer = ray.remote(_answer).options(num_returns=len(pieces))
        answers = [
            _listed(answer.remote(work, len(pieces), *(each[place] for each in (*pieces, *foreign))))
            for place in range(count)
        ]
        del pieces, foreign  # each piece goes once its partition has answered
        refs: list[Any] = []
        for number, group in enumerate(mine.groups):
            put = ray.remote(_put_back).options(num_returns=len(group))
            refs += _listed(put.remote(len(group), *group, *(each[number] for each in answers)))
        _await(refs)
        return ray.data.from_arrow_refs(refs)


@dataclass(frozen=True, slots=True)
class _Side:
    """One side's blocks, in groups that follow one another, and their size in bytes."""

    groups: list[list[Any]]
    bytes: int

    @classmethod
    def of(cls, dataset: Any) -> _Side:
        from ray.exceptions import RayError

        try:
            kept = dataset.materialize()
            refs = kept.to_arrow_refs()
        except (RayError, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise DataError(f"the data cannot be read: {reason}.") from error
        if not refs:
            raise DataError("the data has no rows to join.")
        size = int(kept.size_bytes() or 0)
        per_group = max(1, int(GROUP_BYTES * len(refs) // max(size, 1)))
        return cls([refs[start : start + per_group] for start in range(0, len(refs), per_group)], size)


@dataclass(frozen=True, slots=True)
class _Cut:
    keys: tuple[str, ...]
    texts: tuple[bool, ...]
    columns: tuple[str, ...] | None


def _cut(how: _Cut, count: int, *blocks: pa.Table) -> Any:
    """Cut the rows of some blocks into ``count`` pieces by key; a piece remembers where each row stood."""
    import pyarrow as pa

    try:
        table = _together(blocks)
        if not table.num_columns:  # what is left of blocks that a filter has emptied
            return [table] * count if count > 1 else table
        keys = pa.table(dict(zip(how.keys, key_arrays(table, how.keys, how.texts, "the data"), strict=True)))
        place = (row_hashes(keys, how.keys) % np.uint64(count)).astype(np.int64)
        if how.columns is not None:
            table = table.select(list(how.columns))
        order = np.argsort(place, kind="stable")
        edges = np.searchsorted(place[order], np.arange(count + 1))
        table = table.append_column(_PLACE, pa.array(np.arange(table.num_rows))).take(pa.array(order))
    except RaylineError as error:
        return _refused(error, count)
    pieces = [_own(table.slice(edges[part], edges[part + 1] - edges[part])) for part in range(count)]
    return pieces if count > 1 else pieces[0]


def _answer(work: Work, groups: int, *pieces: Any) -> Any:
    """Work on one partition; the answers go back in one piece for each group of blocks."""
    import pyarrow as pa

    failed = next((each for each in pieces if isinstance(each, _Refusal)), None)
    if failed is not None:
        return [failed] * groups if groups > 1 else failed
    mine = pieces[:groups]
    rows = _together(mine)
    features = _together(pieces[groups:]).drop_columns([_PLACE]) if len(pieces) > groups else None
    try:
        answers = work(rows.drop_columns([_PLACE]), features)
    except RaylineError as error:
        return _refused(error, groups)
    answers = answers.append_column(_PLACE, rows.column(_PLACE))
    edges = np.cumsum([0, *(each.num_rows for each in mine)])
    cut = [_own(answers.slice(edges[part], edges[part + 1] - edges[part])) for part in range(groups)]
    assert isinstance(answers, pa.Table)
    return cut if groups > 1 else cut[0]


def _put_back(count: int, *parts: Any) -> Any:
    """Put the partitions' answers beside the rows of a group of blocks, each where its row stands."""
    import pyarrow as pa

    failed = next((each for each in parts if isinstance(each, _Refusal)), None)
    if failed is not None:
        return [failed] * count if count > 1 else failed
    blocks, answers = parts[:count], _together(parts[count:])
    order = np.empty(answers.num_rows, dtype=np.int64)
    order[answers.column(_PLACE).to_numpy()] = np.arange(answers.num_rows)
    answers = answers.drop_columns([_PLACE]).take(pa.array(order))
    done, start = [], 0
    for block in blocks:
        piece = answers.slice(start, block.num_rows)
        for name in piece.column_names:
            block = block.append_column(piece.schema.field(name), piece.column(name).combine_chunks())
        done.append(block)
        start += block.num_rows
    return done if count > 1 else done[0]


@dataclass(frozen=True, slots=True)
class _JoinPartition:
    spec: JoinSpec
    texts: tuple[bool, ...]

    def __call__(self, rows: pa.Table, features: pa.Table | None) -> pa.Table:
        assert features is not None
        return Index.of(features, self.spec, self.texts).columns_for(rows)


@dataclass(frozen=True, slots=True)
class _WindowPartition:
    group: WindowGroup

    def __call__(self, rows: pa.Table, features: pa.Table | None) -> pa.Table:
        return window_columns(rows, self.group)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An error of ours as plain values: it crosses processes without Ray's wrapping."""

    kind: type[RaylineError]
    message: str


_PLACE = "__rayline_place__"


def _broadcast(rows: Any, index: Index) -> Any:
    import ray

    with quiet():
        look = _LookUp(ray.put(index))
        return rows.map_batches(look, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)


@dataclass(frozen=True, slots=True)
class _LookUp:
    index: Any

    def __call__(self, block: pa.Table) -> pa.Table:
        import ray

        found: Index = ray.get(self.index)
        return found.joined(block)


def _refused(error: RaylineError, count: int) -> Any:
    kind = DataError if isinstance(error, RowError) else type(error)
    refusal = _Refusal(kind, str(error))
    return [refusal] * count if count > 1 else refusal


def _await(refs: list[Any]) -> None:
    """Wait for all blocks. Raises what a task refused, or ``DataError`` where one failed."""
    import ray
    from ray.exceptions import RayError

    waiting = list(refs)
    verdict = ray.remote(_verdict)
    while waiting:
        ready, waiting = ray.wait(waiting, num_returns=min(len(waiting), 16), fetch_local=False)
        try:
            for found in ray.get([verdict.remote(each) for each in ready]):
                if found is not None:
                    raise found.kind(found.message)
        except RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise DataError(f"the data cannot be joined: {reason}.") from error


def _verdict(block: Any) -> _Refusal | None:
    return block if isinstance(block, _Refusal) else None


def _schema(dataset: Any) -> pa.Schema:
    import pyarrow as pa

    with quiet():
        schema = dataset.schema()
    if schema is None:
        raise DataError("the data has no rows to join.")
    return pa.schema(list(zip(schema.names, schema.types, strict=True)))


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(tables, promote_options="permissive")


def _own(table: pa.Table) -> pa.Table:
    """Return a copy that holds its own rows alone: a slice would be sent with all that it was cut from."""
    return table.combine_chunks() if table.num_rows else table.schema.empty_table()


def _listed(refs: Any) -> list[Any]:
    return refs if isinstance(refs, list) else [refs]
