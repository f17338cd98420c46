"""What the configuration's joins and windows add to the data, before it is divided: the pipeline's one call."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rayline.config import Config, FeaturesConfig
from rayline.features.blocks import ROWS_PER_BLOCK, in_blocks, quiet
from rayline.features.joins.join import join_tables, taken
from rayline.features.joins.tables import FeatureTable, tables_of
from rayline.features.joins.windows import window_groups, with_windows
from rayline.features.splits.split import POSITION, in_order

if TYPE_CHECKING:
    import pyarrow as pa

HEAD_ROWS = 200_000


def has_history(features: FeaturesConfig) -> bool:
    """Tell whether a configuration joins tables or has windows."""
    return bool(features.join or features.windows)


def history_digest(config: Config, digest: str) -> str:
    """Return 16 hex digits that change when the data's digest or a joined table's content does; needs no Ray."""
    if not config.features.join:
        return digest
    whole = hashlib.blake2b(digest.encode(), digest_size=8)
    for source in tables_of(config.features.join):
        whole.update(f"{source.spec.name} {source.digest()} ".encode())
    return whole.hexdigest()


def table_with_history(features: FeaturesConfig, table: pa.Table) -> pa.Table:
    """Return a table in memory, in its order, with the columns of the configured joins and windows. Needs no Ray.

    Raises:
        ConfigError: a join or window names a column that is not there, or adds one that is.
        NotFoundError, DataError: a feature table, a key or a time cannot be read.
    """
    for source in tables_of(features.join):
        table = join_tables(table, source.table(), source.spec)
    return with_windows(table, features.windows)


def completed_table(features: FeaturesConfig, table: pa.Table, inputs: Collection[str]) -> pa.Table:
    """Return a table with those of a model's inputs joined that it lacks: what a file to predict may leave out.

    Args:
        features: the configuration.
        table: the rows, in memory; its own columns win.
        inputs: the model's raw input columns. Windows are not made here: a file seldom holds the rows before its own.

    Raises:
        NotFoundError, DataError: a feature table cannot be read, or the rows lack its key or time.
    """
    for feature_table in tables_of(features.join):
        spec = feature_table.spec
        if spec.columns and all(spec.prefix + name in table.column_names for name in spec.columns):
            continue
        source = feature_table.table()
        lacking = [
            name
            for name in taken(source.column_names, spec)
            if spec.prefix + name in inputs and spec.prefix + name not in table.column_names
        ]
        if lacking:
            table = join_tables(table, source, replace(spec, columns=tuple(lacking)))
    return table


def with_history(
    config: Config, table: pa.Table, dataset: Any, rows_per_block: int = ROWS_PER_BLOCK
) -> tuple[pa.Table, Any]:
    """Return what the pipeline works on, with the columns of the configured joins and windows, in the same order.

    Args:
        config: the project. Ray must be connected, if it joins or has windows.
        table: the rows to infer from: all of them, or the first.
        dataset: all rows, as a ``ray.data.Dataset``.
        rows_per_block: how finely a source in memory is cut.

    Returns:
        A table to infer from, and a Dataset. Without joins and windows, the very two that were given.

    Raises:
        ConfigError, NotFoundError, DataError: as ``table_with_history``.
    """
    features = config.features
    if not has_history(features):
        return table, dataset
    sources = tables_of(features.join)
    if _in_memory(dataset, table) and all(source.small() for source in sources):
        whole = table_with_history(features, table)
        return whole, in_blocks(_positioned(whole, dataset), rows_per_block)
    from rayline.features.joins.exchange import joined, windowed

    for source in sources:
        dataset = joined(dataset, source.table() if source.small() else source.dataset(), source.spec)
    for group in window_groups(features.windows):
        dataset = windowed(dataset, group)
    return _head(features, table, dataset, sources), dataset


def _in_memory(dataset: Any, table: pa.Table) -> bool:
    """Tell whether ``table`` is all of ``dataset``."""
    from ray.data.dataset import MaterializedDataset

    with quiet():
        return isinstance(dataset, MaterializedDataset) and dataset.count() == table.num_rows


def _positioned(table: pa.Table, dataset: Any) -> pa.Table:

    with quiet():
        if POSITION not in dataset.schema().names:
            return table
    return in_order(table)


def _head(features: FeaturesConfig, table: pa.Table, dataset: Any, sources: tuple[FeatureTable, ...]) -> pa.Table:
    """Return rows to infer from: the first of the result, or all where ``table`` holds all of the data."""
    import pyarrow as pa

    if not features.windows and all(source.small() for source in sources):
        return table_with_history(features, table)
    taken_rows, blocks = 0, []
    with quiet():
        for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            blocks.append(block)
            taken_rows += block.num_rows
            if taken_rows >= max(HEAD_ROWS, table.num_rows):
                break
    head = pa.concat_tables(blocks, promote_options="permissive")
    return head.drop_columns([POSITION]) if POSITION in head.column_names else head
