"""Where the rows of a joined feature table come from: one seam, and the files behind it.

Another kind of table is one small file that meets ``FeatureTable``, and a line in ``_opened``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rayline.config import DataConfig, JoinConfig
from rayline.config.history import feast_place, microseconds
from rayline.features.sources import read_dataset, read_table, source_digest, too_large

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class JoinSpec:
    """How one feature table is joined, as plain values that travel to workers.

    Attributes:
        name: of the table.
        keys: columns of both sides.
        time: the event time, a column of the feature table.
        at: the time of a row, a column of the other side.
        ttl: microseconds; a feature row that old, or older, is not used. None means: for ever.
        columns: what is taken; none means all but keys and time.
        prefix: stands before their names in the result.
        created: a column of the feature table; of several rows with one time, the one with the latest wins, and among
            those the last.
    """

    name: str
    keys: tuple[str, ...]
    time: str
    at: str
    ttl: int | None = None
    columns: tuple[str, ...] = ()
    prefix: str = ""
    created: str | None = None


class FeatureTable(Protocol):
    """One feature table: its rows in a stable order, and how they are joined."""

    @property
    def spec(self) -> JoinSpec:
        """How it is joined."""

    @property
    def elsewhere(self) -> str | None:
        """Its name in an online store that its owner keeps; None where Rayline keeps its latest rows."""

    def digest(self) -> str:
        """Return hexadecimal digits that change when its content does; needs no Ray."""

    def small(self) -> bool:
        """Tell whether it is read at once, here, and sent whole to whoever joins."""

    def table(self, *, head: bool = False) -> pa.Table:
        """Return its rows, with at least keys, time and columns; with ``head`` enough of them to tell their types."""

    def dataset(self) -> Any:
        """Return its rows as a ``ray.data.Dataset``, in the same order."""


@dataclass(frozen=True, slots=True)
class FileTable:
    """A feature table of CSV, Parquet or JSON lines. Meets ``FeatureTable``."""

    spec: JoinSpec
    data: DataConfig
    elsewhere: str | None = None

    def digest(self) -> str:
        """As ``FeatureTable``. Local files are hashed whole."""
        return source_digest(self.data)

    def small(self) -> bool:
        """As ``FeatureTable``: whether its files are no larger than what a source is read at once for."""
        return not too_large(self.data)

    def table(self, *, head: bool = False) -> pa.Table:
        """As ``FeatureTable``. Raises ``NotFoundError`` or ``DataError``."""
        return read_table(self.data, head=head)

    def dataset(self) -> Any:
        """As ``FeatureTable``. Raises ``NotFoundError`` or ``DataError``."""
        return read_dataset(self.data, read_table(self.data, head=True).schema)


def tables_of(joins: Iterable[JoinConfig]) -> tuple[FeatureTable, ...]:
    """Return the feature tables that a configuration names, in order; their rows are not read yet.

    Raises:
        ConfigError, NotFoundError, EnvironmentFailed: as ``rayline.features.joins.feast_table.feast_tables``.
    """
    return tuple(table for join in joins for table in _opened(join))


def _opened(join: JoinConfig) -> tuple[FeatureTable, ...]:
    assert join.source is not None
    if feast_place(join.source) is not None:
        from rayline.features.joins.feast_table import feast_tables

        return feast_tables(join)
    assert join.time is not None
    ttl = microseconds(join.ttl) if join.ttl is not None else None
    spec = JoinSpec(join.name, join.keys, join.time, join.at, ttl, join.columns, join.prefix)
    return (FileTable(spec, DataConfig(source=join.source, format=join.format)),)
