"""A configured source, opened: what to infer from, all rows as a Dataset, and a look at every block of some columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rayline.config import DataConfig
from rayline.errors import ConfigError, DataError
from rayline.features.blocks import ROWS_PER_BLOCK, fold, in_blocks
from rayline.features.sources import parts_of, read_dataset, read_table, too_large
from rayline.features.splits.split import FILE_PART, PARTS, POSITION

if TYPE_CHECKING:
    import pyarrow as pa

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Opened:
    """A source.

    Attributes:
        table: what to infer from, without marks: all rows, or the head of a large source.
        dataset: all rows as a ``ray.data.Dataset``, with the marks that the split needs.
        rows: all rows with the marks, where they are in memory; None for a large source.
        part: gives some columns of a large source as a Dataset that reads no others.
    """

    table: pa.Table
    dataset: Any
    rows: pa.Table | None
    part: Callable[[tuple[str, ...]], Any]

    def look(self, columns: tuple[str, ...] | None, see: Callable[[pa.Table], Result]) -> Iterator[Result]:
        """Yield what a function finds in every block of some columns (all where None).

        One execution for a large source, that reads these columns alone; none for one that is in memory.
        """
        if self.rows is not None:
            yield see(self.rows if columns is None else self.rows.select(list(columns)))
        else:
            yield from fold(self.dataset if columns is None else self.part(columns), see)


def open_source(data: DataConfig, rows_per_block: int = ROWS_PER_BLOCK, *, text: bool = False) -> Opened:
    """Open a source, once: what fits is read here; what does not is read on the cluster, when it is looked at.

    Args:
        data: the source and its split.
        rows_per_block: how finely a source that fits is cut.
        text: read every column of a large CSV as text, so that a value that is no number is told rather than refused.

    Raises:
        RaylineError: as ``read_table``.
        ConfigError: the split goes by the order of rows, and the source has none.
    """
    import pyarrow as pa

    if data.split.by == "time" and data.split.column is None:
        return _in_file_order(data, rows_per_block)
    files = parts_of(data)
    if not any(too_large(each) for _, each in files):
        tables = [(place, read_table(each)) for place, each in files]
        table = _together([found for _, found in tables], data)
        marks = np.repeat([place for place, _ in tables], [found.num_rows for _, found in tables])
        rows = _marked(table, FILE_PART, marks) if len(files) > 1 else table
        return Opened(table, in_blocks(rows, rows_per_block), rows, lambda columns: None)
    heads = [read_table(each, head=True) for _, each in files]
    head = _together(heads, data)
    types = pa.schema([(name, pa.string()) for name in head.column_names]) if text else head.schema

    def read(columns: tuple[str, ...] | None = None) -> Any:
        first, *rest = (read_dataset(each, types, columns) for _, each in files)
        return first.union(*rest) if rest else first

    if len(files) == 1:
        return Opened(head, read(), None, read)
    marked = [
        read_dataset(each, types).map_batches(
            _Mark(place, tuple(head.column_names)), batch_format="pyarrow", batch_size=None, zero_copy_batch=True
        )
        for place, each in files
    ]
    return Opened(head, marked[0].union(*marked[1:]), None, read)


def _in_file_order(data: DataConfig, rows_per_block: int) -> Opened:
    """Number the rows as they come, here: the blocks of a cluster do not know how many rows are before them."""
    if data.sql is not None:
        raise ConfigError("data.split.by is time, and a query has no order of its own: set data.split.column.")
    table = read_table(data)
    rows = _marked(table, POSITION, np.arange(table.num_rows))
    return Opened(table, in_blocks(rows, rows_per_block), rows, lambda columns: None)


def _together(tables: list[pa.Table], data: DataConfig) -> pa.Table:
    import pyarrow as pa

    names = tables[0].column_names
    for place, table in enumerate(tables[1:], 1):
        less, more = set(names) - set(table.column_names), set(table.column_names) - set(names)
        if less or more:
            part, other = parts_of(data)[place]
            word = f"lacks {', '.join(sorted(less))}" if less else f"has {', '.join(sorted(more))} besides"
            raise DataError(
                f"data.split: '{other.label}' does not have the columns of '{data.label}': it {word}. "
                f"Give the {PARTS[part]} part the same columns."
            )
    try:
        return pa.concat_tables([table.select(names) for table in tables], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise DataError(f"the parts of data.split disagree on a column's type: {error}.") from error


def _marked(table: pa.Table, name: str, values: Any) -> pa.Table:
    import pyarrow as pa

    return table.append_column(name, pa.array(values))


@dataclass(frozen=True, slots=True)
class _Mark:
    place: int
    names: tuple[str, ...]

    def __call__(self, table: pa.Table) -> pa.Table:
        return _marked(table.select(list(self.names)), FILE_PART, np.full(table.num_rows, self.place))
