"""The fitted state of a FeatureSet, and the two ways to apply it: to an Arrow table and to one request row.

Importable without Ray, torch or pandas; PyArrow is imported by the batch path alone. The state is plain values with a
JSON form, and unpickling rebuilds it from that form.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import Task
from rayline.errors import RowError, SchemaError, nearest, suggestion
from rayline.features.kinds import FittedColumn, kind_named
from rayline.features.kinds.elements import ArrayColumn
from rayline.features.kinds.levels import LevelColumn
from rayline.features.kinds.numeric import NumericBlock, NumericColumn
from rayline.features.kinds.seam import Filler
from rayline.features.reading import arrow_values
from rayline.features.reading.batch import Batch
from rayline.features.schemas.schema import Schema, digest_of
from rayline.features.threads import ROWS, each, is_large
from rayline.features.upgrade import FORMAT, upgraded
from rayline.model import InputGroup, InputLayout

if TYPE_CHECKING:
    import pyarrow as pa


TILE = 2_048  # rows whose outputs are written by all steps in turn, while their memory lies in the cache


@dataclass(frozen=True, slots=True)
class _Step:
    """What writes the outputs from ``first`` to ``last``."""

    first: int
    last: int
    does: Any


@dataclass(frozen=True)
class FittedFeatureSet:
    """Everything that turns raw columns into the network's input, and the target into numbers.

    Attributes:
        schema: what the raw table must look like.
        columns: the fitted columns, in the order of their outputs.
        target_mean, target_std: standardisation of a regression's target; 0 and 1 for a classification.
    """

    schema: Schema
    columns: tuple[FittedColumn, ...]
    target_mean: float = 0.0
    target_std: float = 1.0

    @cached_property
    def input_columns(self) -> tuple[str, ...]:
        """The raw columns that a row must hold."""
        return tuple(dict.fromkeys(name for column in self.columns for name in column.inputs))

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """One name per number of the network's input."""
        return tuple(name for column in self.columns for name in column.output_names)

    @cached_property
    def width(self) -> int:
        """How many numbers the network takes."""
        return len(self.output_names)

    @cached_property
    def layout(self) -> InputLayout:
        """What each number of the network's input stands for."""
        groups, start = [], 0
        for column in self.columns:
            groups.append(_group(column, start))
            start += groups[-1].width
        return InputLayout(tuple(groups))

    @property
    def task(self) -> Task:
        """``binary``, ``multiclass`` or ``regression``."""
        return self.schema.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Canonical texts of the classes, in the order of their indices; none for a regression."""
        return self.schema.classes

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the whole state: equal states give equal numbers."""
        return digest_of(self.to_json())

    def transform(self, table: pa.Table, *, training: bool = False, large: bool | None = None) -> NDArray[np.float32]:
        """Return the network's input for a table.

        Args:
            table: the raw columns, each of any physical type that its kind can be read from; others are ignored.
            training: these are the very rows of the fit; features that look at the target leave each row's own out.
            large: the rows are part of a large table, for which loading the compiled loops pays; told from the table
                itself where None. It changes no number.

        Returns:
            float32 (n, width), finite.

        Raises:
            SchemaError: an input column is missing from the table.
            RowError: a value is not of its column's kind; it names the first such row.
        """
        self._refuse_missing_columns(table.column_names)
        starts = range(0, table.num_rows, ROWS)
        large = is_large(table.num_rows, len(self.schema.columns)) if large is None else large
        batches = [Batch(table.slice(start, ROWS), self.schema, compiled=large) for start in starts]
        return self.matrix_of(batches, training=training)

    def matrix_of(self, batches: Sequence[Batch], *, training: bool) -> NDArray[np.float32]:
        """Return what ``transform`` does of batches that follow one another."""
        ends = np.cumsum([0, *(len(batch) for batch in batches)]).tolist()
        out = np.zeros((ends[-1], self.width), dtype=np.float32)

        def fill(place: int) -> None:
            try:
                self._fill(batches[place], out[ends[place] : ends[place + 1]], training)
            except RowError as error:
                raise RowError(ends[place] + error.row, error.column, error.value, error.rule) from error

        for _ in each(range(len(batches)), fill, large=any(batch.compiled for batch in batches)):
            pass
        return out

    def row(self, row: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the network's input for one row, without Arrow, in microseconds.

        Args:
            row: a value for every input column, None where it is unknown; other keys are ignored.

        Returns:
            float32 (width,), finite.

        Raises:
            RowError: an input column is absent, or a value is not of its column's kind.
        """
        out = self._blank.copy()
        try:
            for fill in self._fillers:
                fill(row, out)
        except KeyError as error:
            raise self._absent(row) from error
        return np.frombuffer(bytearray(self._packer.pack(*out)), dtype=np.float32)

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """Return the network's input for several rows: float32 (n, width). Raises ``RowError`` as ``row`` does."""
        out = np.empty((len(rows), self.width), dtype=np.float32)
        fillers, blank, pack_into, stride = self._fillers, self._blank, self._packer.pack_into, self._packer.size
        for index, row in enumerate(rows):
            numbers = blank.copy()
            try:
                for fill in fillers:
                    fill(row, numbers)
            except RowError as error:
                raise RowError(index, error.column, error.value, error.rule) from error
            except KeyError as error:
                absent = self._absent(row)
                raise RowError(index, absent.column, absent.value, absent.rule) from error
            pack_into(out.data, index * stride, *numbers)
        return out

    def encode_target(self, table: pa.Table) -> NDArray[Any]:
        """Return what the network learns to give.

        Returns:
            int64 (n,) class indices, or float32 (n,) standardised values for a regression.

        Raises:
            SchemaError: the table has no target column.
            RowError: a target is missing, is not one of the classes or is no number.
        """
        name = self.schema.target
        if name not in table.column_names:
            raise SchemaError(f"the table has no target column '{name}'. {suggestion(name, table.column_names)}")
        array = table.column(name)
        if self.task == "regression":
            values = arrow_values.checked(arrow_values.numbers, array, name, arrow_values.RULES["numeric"])
            self._refuse_rows(array, values.missing, "stands where the target must be a number")
            return ((values.data - self.target_mean) / self.target_std).astype(np.float32)
        values = arrow_values.checked(arrow_values.levels, array, name, arrow_values.RULES["categorical"])
        index = {text: position for position, text in enumerate(self.classes)}
        lookup = np.array([*(index.get(text, -1) for text in values.texts), -1], dtype=np.int64)
        codes: NDArray[np.int64] = lookup[np.maximum(values.codes, -1)]
        self._refuse_rows(array, codes < 0, f"is not one of the classes {', '.join(self.classes)}")
        return codes

    def to_sklearn(self, *, partial: bool = False) -> Any:
        """Return a fitted scikit-learn ``Pipeline`` of equal output on pandas frames: see ``features/bridges``."""
        from rayline.features.bridges.to_sklearn import to_sklearn

        return to_sklearn(self, partial=partial)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; ``from_json`` gives the same numbers to the last bit."""
        return {
            "format": FORMAT,
            "schema": self.schema.to_json(),
            "columns": [column.to_json() for column in self.columns],
            "target_mean": self.target_mean,
            "target_std": self.target_std,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> FittedFeatureSet:
        """Return the state of ``to_json``'s values. Raises ``SchemaError`` where they are not that."""
        try:
            raw = upgraded(raw)
            columns = tuple(kind_named(each["kind"]).restore(each) for each in raw["columns"])
            return cls(Schema.from_json(raw["schema"]), columns, raw["target_mean"], raw["target_std"])
        except (KeyError, TypeError) as error:
            raise SchemaError(f"the feature state is damaged: {error!r}. Make it anew with `--fresh`.") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return FittedFeatureSet.from_json, (self.to_json(),)

    @cached_property
    def _fillers(self) -> tuple[Filler, ...]:
        fillers, offset = [], 0
        for column in self.columns:
            fillers.append(column.filler(offset))
            offset += len(column.output_names)
        return tuple(fillers)

    @cached_property
    def _blank(self) -> list[float]:
        return [0.0] * self.width

    @cached_property
    def _packer(self) -> struct.Struct:
        # Packing a struct is half the time of numpy.array over a list of floats, and rounds to 32 bits the same way.
        return struct.Struct(f"={self.width}f")

    def _fill(self, batch: Batch, out: NDArray[np.float32], training: bool) -> None:
        writers = []
        for step in self._plan:
            if hasattr(step.does, "writer"):
                writers.append((step, step.does.writer(batch)))
            else:
                step.does.batch(batch, out[:, step.first : step.last], training=training)
        for start in range(0, len(out), TILE):
            rows = slice(start, start + TILE)
            for step, write in writers:
                write(rows, out[rows, step.first : step.last])

    @cached_property
    def _plan(self) -> tuple[_Step, ...]:
        """Plain numbers that stand side by side are one step together."""
        steps: list[_Step] = []
        for plain, group in groupby(self.columns, lambda column: isinstance(column, NumericColumn) and column.plain):
            columns: tuple[Any, ...] = tuple(group)
            for does in (NumericBlock(columns),) if plain else columns:
                first = steps[-1].last if steps else 0
                width = len(columns) if plain else len(does.output_names)
                steps.append(_Step(first, first + width, does))
        return tuple(steps)

    def _refuse_missing_columns(self, present: Sequence[str]) -> None:
        absent = [name for name in self.input_columns if name not in set(present)]
        if absent:
            raise SchemaError(
                f"the table has no column '{absent[0]}', which the features need"
                f"{f' (and {len(absent) - 1} more)' if len(absent) > 1 else ''}. {suggestion(absent[0], present)}"
            )

    def _absent(self, row: Mapping[str, Any]) -> RowError:
        name = next(name for name in self.input_columns if name not in row)
        spare = nearest(name, (str(key) for key in row if key not in self.input_columns))
        hint = f" (the row has '{spare}')" if spare else ""
        return RowError(
            0, name, None, f"found, since the row has no such column{hint}: send every input column, null where unknown"
        )

    def _refuse_rows(self, array: Any, refused: NDArray[np.bool_], rule: str) -> None:
        if refused.any():
            row = int(np.argmax(refused))
            raise RowError(row, self.schema.target, array[row].as_py(), rule)


def _group(column: FittedColumn, start: int) -> InputGroup:
    width = len(column.output_names)
    if isinstance(column, LevelColumn) and column.encode == "index":
        return InputGroup(column.name, "index", start, width, levels=len(column.levels) + 2)
    if isinstance(column, ArrayColumn) and column.kind == "image":
        return InputGroup(column.name, "image", start, width, shape=column.shape)
    return InputGroup(column.name, "number", start, width)
