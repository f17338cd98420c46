"""A table handed over from Python: Arrow, pandas, anything that speaks Arrow's protocol, or a Ray Dataset.

It is known in this process alone, by a digest of its rows: ``python:DIGEST``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from rayline.config import DataConfig
from rayline.errors import DataError, NotFoundError, UsageError
from rayline.features.sources.formats import refuse_twins

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.features.sources.seam import Connector

SCHEME = "python:"

_HANDED: dict[str, Connector] = {}


def handed_over(data: Any, config: DataConfig | None = None) -> DataConfig:
    """Return a configuration whose source is this table; the rest of it is as it was.

    The rows of a Ray Dataset are computed once, here, and kept in the object store: whatever reads them later starts
    from there. Ray must be connected for it.

    Args:
        data: a ``pyarrow.Table``, a pandas or Polars frame, or a ``ray.data.Dataset``.
        config: what says how the rows are divided.

    Raises:
        UsageError: it is no table.
        DataError: it has no rows, one column twice, or values that Arrow has no type for.
    """
    if hasattr(data, "materialize") and hasattr(data, "iter_batches"):
        source: DatasetSource | TableSource = DatasetSource(_materialised(data))
    else:
        source = TableSource(_arrow(data))
    refuse_twins(source.names, "the table handed over")
    digest = source.digest()
    _HANDED[SCHEME + digest] = source
    return msgspec.structs.replace(config or DataConfig(), source=SCHEME + digest, sql=None)


def handed(source: str) -> Connector:
    """Return the connector of ``python:DIGEST``. Raises ``NotFoundError`` for one of another process."""
    if source not in _HANDED:
        raise NotFoundError(
            f"data source '{source}' was handed over from Python, in a process that is gone. Hand it over again: "
            "rayline.run(config, data=table)."
        )
    return _HANDED[source]


@dataclass(frozen=True, slots=True)
class TableSource:
    """An Arrow table in memory."""

    rows: pa.Table

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return list(self.rows.column_names)

    def table(self, head: int | None = None) -> pa.Table:
        """Return the rows."""
        return self.rows

    def dataset(self, schema: pa.Schema | None, columns: tuple[str, ...] | None = None) -> Any:
        """Return the rows as a Dataset."""
        from rayline.features.blocks import in_blocks

        return in_blocks(self.rows.select(list(columns)) if columns else self.rows)

    def digest(self) -> str:
        """Hash the columns' names and the rows in their order."""
        return _digest(self.names, iter([_hashes(self.rows)]))

    def larger_than(self, limit: int) -> bool:
        """The table is in memory already: it is read here."""
        return False


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """The computed blocks of a Ray Dataset."""

    rows: Any

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return list(self.rows.schema().names)

    def table(self, head: int | None = None) -> pa.Table:
        """Return the rows, in the order of the blocks."""
        import pyarrow as pa

        from rayline.features.blocks import fold

        tables, taken = [], 0
        for block in fold(self.rows, _itself):
            tables.append(block)
            taken += block.nbytes
            if head is not None and taken >= head:
                break
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise DataError(f"blocks of the Dataset handed over disagree on a column's type: {error}.") from error

    def dataset(self, schema: pa.Schema | None, columns: tuple[str, ...] | None = None) -> Any:
        """Return the Dataset, computed."""
        return self.rows if columns is None else self.rows.select_columns(list(columns))

    def digest(self) -> str:
        """Hash the columns' names and the rows in their order, however they are cut into blocks."""
        from rayline.features.blocks import fold

        return _digest(self.names, fold(self.rows, _hashes))

    def larger_than(self, limit: int) -> bool:
        """Compare the size of the blocks."""
        return bool(self.rows.size_bytes() > limit)


def _itself(block: pa.Table) -> pa.Table:
    return block


def _hashes(block: pa.Table) -> bytes:
    from rayline.features.hashing import row_hashes

    return row_hashes(block).tobytes()


def _digest(names: list[str], hashes: Iterator[bytes]) -> str:
    digest = hashlib.blake2b(repr(sorted(names)).encode(), digest_size=8)
    for each in hashes:
        digest.update(each)
    return digest.hexdigest()


def _materialised(dataset: Any) -> Any:
    from ray.data.dataset import MaterializedDataset
    from ray.exceptions import RayError

    from rayline.features.blocks import quiet
    from rayline.features.sources.failures import reason_of

    try:
        with quiet():
            found = dataset if isinstance(dataset, MaterializedDataset) else dataset.materialize()
    except (RayError, OSError, ValueError) as error:
        raise DataError(f"the Dataset handed over cannot be computed: {reason_of(error)}.") from error
    if not found.count():
        raise DataError("the Dataset handed over has no rows. Hand over one with data.")
    return found


def _arrow(data: Any) -> pa.Table:
    import pyarrow as pa

    try:
        if isinstance(data, pa.Table):
            table = data
        elif isinstance(data, pa.RecordBatch):
            table = pa.Table.from_batches([data])
        elif hasattr(data, "iloc"):
            table = pa.Table.from_pandas(data, preserve_index=False).replace_schema_metadata(None)
        elif hasattr(data, "__arrow_c_stream__"):
            table = pa.table(data)
        else:
            raise UsageError(
                f"data is a {type(data).__name__}, which is no table. Hand over a pyarrow.Table, a pandas or Polars "
                "DataFrame, or a ray.data.Dataset."
            )
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise DataError(f"the table handed over does not become Arrow: {error}. Give each column one type.") from error
    if not table.num_rows:
        raise DataError("the table handed over has no rows. Hand over one with data.")
    return table
