"""Some rows of a raw table, each column read once whatever the number of features that look at it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rayline.config import ColumnKind
from rayline.features.hashing import mix, row_hashes
from rayline.features.reading import arrow_values
from rayline.features.reading.arrow_values import Values
from rayline.features.schemas.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa

FOLD_SALT = np.uint64(0x3C79AC492BA7B653)  # folds must not share bits with the split


class Batch:
    """A ``pyarrow.Table`` on its way through fit or transform.

    ``compiled`` says that it is part of a table so large that loading the compiled loops pays; they change no number.
    """

    def __init__(self, table: pa.Table, schema: Schema, *, compiled: bool = False) -> None:
        self.table = table
        self.schema = schema
        self.compiled = compiled
        self._shapes = {each.name: each.shape for each in schema.columns if each.shape is not None}
        self._values: dict[tuple[str, ColumnKind], Values] = {}
        self._checked: set[tuple[str, ColumnKind]] = set()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def raw(self, column: str, kind: ColumnKind) -> Values:
        """Return a raw column as values of a kind, the wrong ones among them."""
        found = self._values.get((column, kind))
        if found is None:
            read = arrow_values.reader(kind, self._shapes.get(column))
            found = self._values[column, kind] = read(self.table.column(column))
        return found

    def values(self, column: str, kind: ColumnKind) -> Values:
        """Return a raw column as values of a kind. Raises ``RowError`` for the first one that is not of it."""
        found = self.raw(column, kind)
        if (column, kind) not in self._checked:
            rule = arrow_values.rule(kind, self._shapes.get(column))
            arrow_values.refuse_wrong(found, self.table.column(column), column, rule)
            self._checked.add((column, kind))
        return found

    @cached_property
    def folds(self) -> NDArray[np.uint64]:
        """A number for each row, by its inputs alone, that cross-fitting divides by: equal inputs, equal folds.

        The target has no say in it. If it had, rows of equal inputs would lie in one fold for each class, and what the
        other folds say would tell the class of each.
        """
        return mix(row_hashes(self.table, self.schema.names) ^ FOLD_SALT) >> np.uint64(33)

    @cached_property
    def target(self) -> NDArray[np.float64]:
        """What a target encoding averages: float64 (n, 1), or (n, classes) of 0 and 1 for several classes."""
        schema = self.schema
        if schema.task == "regression":
            numbers: NDArray[np.float64] = self.values(schema.target, "numeric").data
            return numbers[:, np.newaxis]
        found = self.values(schema.target, "categorical")
        place = {text: index for index, text in enumerate(schema.classes)}
        codes = np.array([*(place.get(text, -1) for text in found.texts), -1])[found.codes]
        if schema.task == "binary":
            codes, classes = codes == 1, np.array([True])
        else:
            classes = np.arange(len(schema.classes))
        hits: NDArray[np.float64] = (codes[:, np.newaxis] == classes).astype(np.float64)
        return hits


def target_names(schema: Schema) -> tuple[str, ...]:
    """Return the names of the columns of ``Batch.target``: none has one where there is a single column."""
    return tuple(schema.classes) if schema.task == "multiclass" else ("",)
