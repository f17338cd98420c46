"""The seam of kinds: what each file of this family gives, and the state that goes between its two halves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rayline.config import ColumnConfig, kind_of
from rayline.errors import RowError
from rayline.features.reading.batch import Batch
from rayline.features.schemas.schema import ColumnSchema
from rayline.features.sketches import Sketch
from rayline.features.state import ColumnState

Filler = Callable[[Mapping[str, Any], list[float]], None]
"""Writes one row's numbers into a list of zeros. Raises ``KeyError`` for an absent column, and ``RowError``."""

Writer = Callable[[slice, NDArray[np.float32]], None]
"""Writes some rows of a batch, given as a slice of it, into their part of the matrix: float32 (rows, width), zeros."""

Extras = Mapping[str, Sketch]
"""What a kind observes beside the ``ColumnState`` that every raw column has, by a name of its own."""

UNKNOWN = "<unknown>"
MISSING = "<missing>"
LARGEST = 3e38  # what a 32-bit float holds


class FittedColumn(Protocol):
    """One fitted feature: raw columns ``inputs`` in, numbers ``output_names`` out.

    It has two paths over the same state and the same order of float64 operations, so that they agree: ``batch`` writes
    many rows, ``filler`` returns a closure that writes one request row.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def output_names(self) -> tuple[str, ...]: ...

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """Write the rows of a batch into ``out``: float32 (n, width), zeros on entry. Raises ``RowError``.

        ``training`` says that the fit has seen these very rows: what looks at the target must leave each row's own
        out.
        """
        ...

    def filler(self, offset: int) -> Filler:
        """Return a closure that writes one row's numbers from ``offset`` on."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values with ``kind`` and ``name``; the kind's ``restore`` takes them."""
        ...


@dataclass(frozen=True, slots=True)
class Feature:
    """One declared feature: its name, its setting and the raw columns that it looks at."""

    name: str
    setting: ColumnConfig
    inputs: tuple[ColumnSchema, ...]

    @property
    def kind(self) -> str:
        """The kind's name."""
        return kind_of(self.setting)

    @property
    def input(self) -> ColumnSchema:
        """The one raw column of most kinds."""
        return self.inputs[0]


@dataclass(frozen=True, slots=True)
class Observed:
    """What a fit knows when it finishes a feature.

    Attributes:
        columns: what was observed of each raw column, by name.
        extras: what the feature's own kind observed.
        target: what was observed of the target.
    """

    columns: Mapping[str, ColumnState]
    extras: Extras
    target: ColumnState


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of feature.

    Attributes:
        name: as configurations write it.
        observe: what some training rows say beyond the states of the raw columns; most kinds need nothing.
        finish: the fitted column of all that was observed.
        looks_beyond: whether ``observe`` looks at more than the feature's own columns, at the target or whole rows.
        depends: what else decides what ``observe`` finds, as JSON-ready values: the source of a user's function.
        restore: the fitted column of its ``to_json``. Raises ``KeyError`` or ``TypeError`` where that is damaged.
    """

    name: str
    finish: Callable[[Feature, Observed], FittedColumn]
    restore: Callable[[Mapping[str, Any]], FittedColumn]
    observe: Callable[[Feature, Batch], Extras] = lambda feature, batch: {}
    looks_beyond: Callable[[Feature], bool] = lambda feature: False
    depends: Callable[[Feature], dict[str, Any]] = lambda feature: {}


def mark(out: NDArray[np.float32], places: NDArray[np.int64]) -> None:
    """Set ``out[row, places[row]]`` to 1 for every row.

    Places in the memory behind ``out`` are a plain index, which NumPy follows five times faster than a pair of them.
    """
    if len(out):
        step = out.strides[0] // out.itemsize
        line = np.lib.stride_tricks.as_strided(out, ((len(out) - 1) * step + out.shape[1],), (out.itemsize,))
        line[np.arange(0, len(out) * step, step) + places] = 1.0


def read(read_one: Callable[[object], Any], value: object, name: str, rule: str) -> Any:
    """Return what a reader makes of one request value. Raises ``RowError`` where it refuses."""
    try:
        return read_one(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise RowError(0, name, value, rule) from error
