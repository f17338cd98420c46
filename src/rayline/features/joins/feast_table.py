"""A Feast feature view as a feature table: the join that Feast's ``get_historical_features`` would do, by our own.

Files are read as any other Parquet, in parallel on Ray where they are large; another source's rows are what Feast's
offline store gives of it, held in memory. Feast drops a row of the data that finds nothing in its files; here it stays,
with missing values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rayline.config import DataConfig, JoinConfig
from rayline.config.history import FEAST, feast_place, microseconds
from rayline.errors import ConfigError, DataError, suggestion
from rayline.features.joins.feast import Repository, View
from rayline.features.joins.tables import JoinSpec
from rayline.features.sources import read_dataset, read_table, source_digest, too_large

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class FeastTable:
    """Meets ``FeatureTable``. Its columns have the names that they have in the joined data, but for the prefix."""

    spec: JoinSpec
    folder: str
    view: View
    _rows: list[Any] = field(default_factory=list, repr=False, compare=False)

    @property
    def elsewhere(self) -> str:
        """As ``FeatureTable``: where the look-up finds it in Feast's online store."""
        return f"{FEAST}{self.folder}#{self.view.name}"

    def digest(self) -> str:
        """As ``FeatureTable``. Local files are hashed whole; what only Feast can read is read and hashed."""
        whole = hashlib.blake2b(f"{self.spec} {self.view}".encode(), digest_size=8)
        if self.view.file is not None:
            whole.update(source_digest(self._files()).encode())
            return whole.hexdigest()
        for column in self.table().combine_chunks().columns:
            for chunk in column.chunks:
                for buffer in chunk.buffers():
                    whole.update(buffer or b"")
        return whole.hexdigest()

    def small(self) -> bool:
        """As ``FeatureTable``."""
        return self.view.file is None or not too_large(self._files())

    def table(self, *, head: bool = False) -> pa.Table:
        """As ``FeatureTable``. Raises ``NotFoundError``, ``DataError`` or ``EnvironmentFailed``."""
        if self.view.file is not None:
            return self._named(read_table(self._files(), head=head))
        if not self._rows:
            self._rows.append(self._named(Repository(self.folder).rows(self.view)))
        return self._rows[0]

    def dataset(self) -> Any:
        """As ``FeatureTable``. Raises ``NotFoundError`` or ``DataError``."""
        if self.view.file is None:
            from rayline.features.blocks import in_blocks

            return in_blocks(self.table())
        read = read_dataset(self._files())
        chosen = self._chosen(read.schema().names)
        return read.select_columns(list(chosen)).rename_columns({old: new for old, new in chosen.items() if old != new})

    def _files(self) -> DataConfig:
        assert self.view.file is not None
        return DataConfig(source=self.view.file, format="parquet")

    def _named(self, table: pa.Table) -> pa.Table:
        chosen = self._chosen(table.column_names)
        return table.select(list(chosen)).rename_columns(list(chosen.values()))

    def _chosen(self, names: Sequence[str]) -> dict[str, str]:
        """Return the columns needed of the source, with their names here. Raises ``DataError`` where one is absent."""
        view = self.view
        wanted = dict(zip(view.keys, view.called, strict=True))
        wanted |= {view.features[feature]: feature for feature in self.spec.columns}
        wanted |= {column: column for column in (view.time, view.created) if column is not None}
        for column in wanted:
            if column not in names:
                near = suggestion(column, names)
                raise DataError(f"the source of Feast's feature view '{view.name}' has no column '{column}'. {near}")
        return wanted


def feast_tables(join: JoinConfig) -> tuple[FeastTable, ...]:
    """Return the feature tables of a join whose source is a Feast feature view or service: one for each view.

    Raises:
        EnvironmentFailed: Feast is not installed, or its registry cannot be reached.
        NotFoundError: there is no such repository, view or service.
        ConfigError: the join says otherwise than Feast, or takes a feature that is not there.
    """
    assert join.source is not None
    place = feast_place(join.source)
    assert place is not None
    folder, name = place
    views = Repository(folder).views(name)
    return tuple(
        FeastTable(_spec(join, view, columns, several=len(views) > 1), folder, view)
        for view, columns in zip(views, _taken(join, views), strict=True)
        if columns
    )


def _spec(join: JoinConfig, view: View, columns: tuple[str, ...], *, several: bool) -> JoinSpec:
    where = f"join '{join.name}': Feast's feature view '{view.alias}'"
    if join.keys and set(join.keys) != set(view.called):
        raise ConfigError(f"{where} has the keys {_listed(view.called)}, not {_listed(join.keys)}. Leave 'keys' out.")
    if join.time not in (None, view.time):
        raise ConfigError(f"{where} has its time in '{view.time}', not '{join.time}'. Leave 'time' out.")
    ttl = None if view.ttl is None else view.ttl + 1  # Feast uses a row that is exactly as old as its time-to-live
    if join.ttl is not None:
        shorter = microseconds(join.ttl)
        if ttl is not None and shorter > ttl:
            raise ConfigError(
                f"{where} lives {(ttl - 1) / 1e6:,.0f} s, and a ttl of {join.ttl} would outlive it. "
                "Leave 'ttl' out, or make it shorter."
            )
        ttl = shorter
    name = f"{join.name}/{view.alias}" if several else join.name
    return JoinSpec(name, view.called, view.time, join.at, ttl, columns, join.prefix, view.created)


def _taken(join: JoinConfig, views: Sequence[View]) -> list[tuple[str, ...]]:
    """Return the features that a join takes of each view. Raises ``ConfigError``."""
    known = [feature for view in views for feature in view.features]
    for column in join.columns:
        if column not in known:
            near = suggestion(column, known)
            raise ConfigError(f"join '{join.name}' takes '{column}', which '{join.source}' does not have. {near}")
    wanted = set(join.columns or known)
    twins = sorted({feature for feature in wanted if known.count(feature) > 1})
    if twins:
        raise ConfigError(
            f"join '{join.name}': more than one view of '{join.source}' has a feature '{twins[0]}'. Write a join for "
            f"each, such as {join.source}/{views[0].alias}, with a 'prefix', or name under 'columns' what is wanted."
        )
    return [tuple(each for each in view.features if each in wanted) for view in views]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
