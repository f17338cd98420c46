"""What live rows are counted by: the bins and levels of each input column, the same for every version of a service.

They come from the reference statistics of the first version's training part and stay, so that the counts of all
versions, replicas and moments can be compared. They lie beside the traffic plan, in ``yardstick.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline import storage as kept
from rayline.errors import ConfigError, ServiceError, suggestion
from rayline.serving.names import service_folder

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
FILE = "yardstick.json"
OTHER, MISSING = "<other>", "<missing>"
MOST_COLUMNS = 200
MOST_SLICES = 32
QUARTILES = (0.25, 0.5, 0.75)
COUNTED = ("numeric", "datetime", "categorical", "boolean")


@dataclass(frozen=True)
class Ruler:
    """One column's way to be counted: by bins between edges, or by levels.

    Attributes:
        column: its name.
        kind: ``numeric`` or ``datetime`` (bins), ``categorical`` or ``boolean`` (levels).
        edges: inner edges, ascending, a datetime's in microseconds since 1970; a value on an edge is in the bin above.
        levels: canonical texts.
        labels: what counts are called, in the order of their codes: a bin or level each, then other, then missing.
    """

    column: str
    kind: str
    edges: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @classmethod
    def counting(cls, column: str, kind: str, edges: Sequence[float] = (), levels: Sequence[str] = ()) -> Ruler:
        """Return the ruler whose labels are levels, or bin indices as text."""
        steps = [str(index) for index in range(len(edges) + 1)] if kind in ("numeric", "datetime") else list(levels)
        return cls(column, kind, tuple(edges), tuple(levels), (*steps, OTHER, MISSING))

    def codes(self, array: pa.Array) -> NDArray[np.int64]:
        """Return the place in ``labels`` of each value.

        Args:
            array: float64, timestamp[us], bool or string, as ``row_table`` makes it of the column.
        """
        if self.kind in ("numeric", "datetime"):
            return self._bins(array)
        return self._levels(array)

    def _bins(self, array: Any) -> NDArray[np.int64]:
        import pyarrow as pa

        if self.kind == "datetime":
            array = array.cast(pa.int64()).cast(pa.float64(), safe=False)
        values = array.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)  # null is NaN
        codes = np.searchsorted(np.asarray(self.edges, dtype=np.float64), values, side="right")
        found: NDArray[np.int64] = np.where(np.isnan(values), len(self.labels) - 1, codes)
        return found

    def _levels(self, array: Any) -> NDArray[np.int64]:
        import pyarrow as pa

        if pa.types.is_boolean(array.type):
            array = array.cast(pa.string())
        coded = array.dictionary_encode()
        known, other = self._known, len(self.levels)
        places = [known.get(text, other) for text in coded.dictionary.to_pylist()]
        lookup = np.array([*places, len(self.labels) - 1], dtype=np.int64)
        found: NDArray[np.int64] = lookup[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
        return found

    @cached_property
    def _known(self) -> dict[str, int]:
        return {text: place for place, text in enumerate(self.levels)}


@dataclass(frozen=True, slots=True)
class Yardstick:
    """The rulers of a service.

    Attributes:
        columns: a ruler per input column that can be counted, at most ``MOST_COLUMNS``.
        shares: column to the share of the training rows per place of its ruler's bins or levels.
    """

    columns: dict[str, Ruler] = field(default_factory=dict)
    shares: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, reference: Mapping[str, Any], inputs: Sequence[str]) -> Yardstick:
        """Return the yardstick of a bundle's reference statistics.

        Args:
            reference: as ``features.reference.reference_of`` made them.
            inputs: the columns that requests hold.
        """
        described = reference.get("columns", {})
        rulers: dict[str, Ruler] = {}
        shares: dict[str, tuple[float, ...]] = {}
        for name in inputs:
            found = _ruler(name, described.get(name, {}))
            if found is not None and len(rulers) < MOST_COLUMNS:
                rulers[name], shares[name] = found
        return cls(rulers, shares)

    def slicers(self, columns: Sequence[str]) -> tuple[Ruler, ...]:
        """Return the rulers that tell the slices of a row: a level, or a quartile of the training part, of each column.

        A level is ``column=level``: the ``MOST_SLICES`` most frequent in training, the rest ``column=<other>``. A
        quartile is ``column<3``, ``column in [3, 8)`` or ``column>=8``. A missing value is ``column=<missing>``.

        Raises:
            ConfigError: a column is no input, or has neither levels nor numbers.
        """
        return tuple(self._slicer(column) for column in columns)

    def _slicer(self, column: str) -> Ruler:
        ruler = self.columns.get(column)
        if ruler is None:
            raise ConfigError(
                f"service.slices: '{column}' is no input column with levels or numbers. "
                f"{suggestion(column, tuple(self.columns))}"
            )
        ends = (f"{column}={OTHER}", f"{column}={MISSING}")
        shares = self.shares[column]
        if ruler.kind in ("numeric", "datetime"):
            edges = _quartiles(ruler.edges, shares)
            return Ruler(column, ruler.kind, edges, (), (*_named(column, ruler.kind, edges), *ends))
        ranked = sorted(range(len(ruler.levels)), key=lambda place: (-shares[place], place))[:MOST_SLICES]
        levels = tuple(ruler.levels[place] for place in sorted(ranked))
        return Ruler(column, ruler.kind, (), levels, (*(f"{column}={level}" for level in levels), *ends))

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        columns = {
            name: {"kind": each.kind, "edges": each.edges, "levels": each.levels, "shares": self.shares[name]}
            for name, each in self.columns.items()
        }
        return {"format": FORMAT, "columns": columns}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Yardstick:
        """Return the yardstick that ``to_json`` wrote. Raises ``ServiceError`` for another format."""
        if raw.get("format") != FORMAT:
            raise ServiceError(f"yardstick has format {raw.get('format')!r}; this version of Rayline reads {FORMAT}.")
        columns = raw["columns"]
        rulers = {
            name: Ruler.counting(name, each["kind"], each["edges"], each["levels"]) for name, each in columns.items()
        }
        return cls(rulers, {name: tuple(each["shares"]) for name, each in columns.items()})


def write_yardstick(storage: str | Path, service: str, yardstick: Yardstick) -> None:
    """Write a service's yardstick whole or not at all."""
    path = service_folder(storage, service) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(yardstick.to_json()), encoding="utf-8")
    os.replace(draft, path)
    kept.keep(path)


def read_yardstick(storage: str | Path, service: str) -> Yardstick:
    """Return a service's yardstick; an empty one where it has none. Raises ``ServiceError`` where it is damaged."""
    path = service_folder(storage, service) / FILE
    try:
        return Yardstick.from_json(json.loads(kept.refresh(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Yardstick()
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(f"'{path}' is damaged: {error}. Delete it and deploy again.") from error


def _ruler(name: str, described: Mapping[str, Any]) -> tuple[Ruler, tuple[float, ...]] | None:
    kind = described.get("kind")
    if kind == "boolean" and "mean" in described:
        true = float(described["mean"])
        return Ruler.counting(name, kind, (), ("false", "true")), (1.0 - true, true)
    if kind == "categorical" and "levels" in described:
        levels = described["levels"]
        return Ruler.counting(name, kind, (), tuple(levels)), tuple(map(float, levels.values()))
    if kind in ("numeric", "datetime") and "edges" in described:
        edges = tuple(map(float, described["edges"]))
        return Ruler.counting(name, kind, edges), tuple(map(float, described["shares"]))
    return None


def _quartiles(edges: Sequence[float], shares: Sequence[float]) -> tuple[float, ...]:
    """Return the edges nearest to the quartiles: interpolated in cumulated shares, so at most a bin off."""
    if not edges:
        return ()
    reached = np.cumsum(shares)[: len(edges)]
    found = np.interp(QUARTILES, reached, edges)
    return tuple(float(f"{value:.6g}") for value in sorted(set(found.tolist())))


def _named(column: str, kind: str, edges: Sequence[float]) -> list[str]:
    if not edges:
        return [f"{column}=<any>"]
    texts = [str(np.datetime64(int(edge), "us")) if kind == "datetime" else f"{edge:.6g}" for edge in edges]
    between = [f"{column} in [{low}, {high})" for low, high in pairwise(texts)]
    return [f"{column}<{texts[0]}", *between, f"{column}>={texts[-1]}"]
