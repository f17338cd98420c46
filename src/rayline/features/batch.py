"""Some rows of a raw table, each column read once whatever the number of features that look at it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rayline.config import ColumnKind
from rayline.features import arrow_values
from rayline.features.arrow_values import READERS, RULES, Values
from rayline.features.hashing import mix, row_hashes
from rayline.features.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa

FOLD_SALT = np.uint64(0x3C79AC492BA7B653)  # folds must not share bits with the split


class Batch:
    """A ``pyarrow.Table`` on its way through fit or transform."""

    def __init__(self, table: pa.Table, schema: Schema) -> None:
        self.table = table
        self.schema = schema
        self._values: dict[tuple[str, ColumnKind], Values] = {}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def raw(self, column: str, kind: ColumnKind) -> Values:
        """Return a raw column as values of a kind, the wrong ones among them."""
        found = self._values.get((column, kind))
        if found is None:
            found = self._values[column, kind] = READERS[kind](self.table.column(column))
        return found

    def values(self, column: str, kind: ColumnKind) -> Values:
        """Return a raw column as values of a kind. Raises ``RowError`` for the first one that is not of it."""
        return arrow_values.checked(lambda _: self.raw(column, kind), self.table.column(column), column, RULES[kind])

    @cached_property
    def folds(self) -> NDArray[np.uint64]:
        """A number for each row, by its inputs and target, that cross-fitting divides by: equal rows, equal folds."""
        schema = self.schema
        return mix(row_hashes(self.table, (*schema.names, schema.target)) ^ FOLD_SALT) >> np.uint64(33)

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
