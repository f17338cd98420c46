"""A request's JSON straight to the network's input, by a decoder compiled from the version's own columns.

Plain numbers are read as doubles into one typed record per row, and scaled for all rows of a pass together. The
arithmetic is that of ``FittedFeatureSet.row``, number by number, so that the matrix is the same to the last bit. What
is not just as the schema has it is left to the general path, which names the row, the column, the value and the rule.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rayline.features.kinds.numeric import NumericColumn
from rayline.features.reading.arrow_values import LIMIT
from rayline.serving.wire.protocol import Row, Value

if TYPE_CHECKING:
    from rayline.features.kinds import FittedColumn
    from rayline.features.transform import FittedFeatureSet


class TypedRows(Sequence[Mapping[str, Any]]):
    """The rows of one request as a compiled decoder read them; each looks like the mapping that was sent.

    Whole numbers of a plain numeric column are doubles here.
    """

    __slots__ = ("decoder", "records")

    def __init__(self, decoder: RowDecoder, records: list[Any]) -> None:
        self.decoder = decoder
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return TypedRows(self.decoder, self.records[index])
        return self.decoder.mapping(self.records[index])

    def __iter__(self) -> Iterator[Row]:
        return map(self.decoder.mapping, self.records)


class RowDecoder:
    """Reads the requests of one version."""

    def __init__(self, features: FittedFeatureSet) -> None:
        """Compile for a version's features. Raises ``ValueError`` where a column's name cannot stand in a record."""
        self._features = features
        names = features.input_columns
        plain = _plain_columns(features)
        fields: list[Any] = [(f"c{place}", _type(name in plain)) for place, name in enumerate(names)]
        rename = {f"c{place}": name for place, name in enumerate(names)}
        self._names = names
        if features.schema.target not in names:
            fields.append(("target", Value | msgspec.UnsetType, msgspec.UNSET))
            rename["target"] = features.schema.target
        record = msgspec.defstruct("Record", fields, rename=rename, forbid_unknown_fields=True, gc=False)
        request = msgspec.defstruct("Request", [("rows", list[record])], forbid_unknown_fields=True)  # type: ignore[valid-type]
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(request).decode
        self._numbers = _Numbers(features, plain)
        self._rest = _Rest(features, plain)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of a record, in order; a target may follow."""
        return self._names

    def rows(self, body: bytes, max_rows: int) -> TypedRows | None:
        """Return the rows of a request that is just as the schema has it; None where the general path must look."""
        try:
            records = self._decode(body).rows
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return TypedRows(self, records) if 0 < len(records) <= max_rows else None

    def mapping(self, record: Any) -> Row:
        """Return one row as it was sent, without a target."""
        return dict(zip(self._names, msgspec.structs.astuple(record), strict=False))

    def matrix(self, requests: Sequence[TypedRows]) -> NDArray[np.float32] | None:
        """Return the network's input for all rows: float32 (n, width); None where the general path must look.

        Raises:
            RowError: a value is not of its column's kind; which row it is in, the general path tells.
        """
        if len(requests) == 1:
            records = requests[0].records
        else:
            records = list(chain.from_iterable(request.records for request in requests))
        values = list(map(msgspec.structs.astuple, records))
        if not self._rest.width:
            return self._numbers.scaled(values)
        out = np.empty((len(values), self._features.width), dtype=np.float32)
        scaled = self._numbers.scaled(values)
        if scaled is None:
            return None
        out[:, self._numbers.outputs] = scaled
        out[:, self._rest.outputs] = self._rest.written(values)
        return out


class _Numbers:
    """The plain numbers of a version: what reads them, and the outputs that they give."""

    def __init__(self, features: FittedFeatureSet, plain: frozenset[str]) -> None:
        spans = [
            (column, span)
            for column, span in _spans(features)
            if isinstance(column, NumericColumn) and column.source in plain
        ]
        places = {name: place for place, name in enumerate(features.input_columns)}
        columns = [column for column, _ in spans]
        wanted = [places[column.source] for column in columns]
        self.outputs = [place for _, span in spans for place in span]
        self._take = _taker(wanted)
        self._pack = struct.Struct(f"={len(wanted)}d").pack
        self._mean = np.array([column.scale.mean for column in columns])
        self._std = np.array([column.scale.std for column in columns])
        self._bound = np.array([column.scale.bound for column in columns])
        self._fill = np.array([column.fill for column in columns])
        self._count = len(wanted)

    def scaled(self, values: Sequence[tuple[Any, ...]]) -> NDArray[np.float32] | None:
        """Return imputed, scaled and cut numbers, float32 (n, numbers); None where one is out of range."""
        taken = map(self._take, values)
        try:
            raw = np.frombuffer(b"".join([self._pack(*each) for each in taken])).reshape(len(values), self._count)
        except struct.error:  # None is among them
            raw = np.array(list(map(self._take, values)), dtype=np.float64)
            raw = np.where(np.isnan(raw), self._fill, raw)
        if self._count and not (raw.max() < LIMIT and raw.min() > -LIMIT):
            return None
        scaled: NDArray[np.float64] = raw - self._mean
        scaled /= self._std
        np.minimum(scaled, self._bound, out=scaled)
        np.maximum(scaled, -self._bound, out=scaled)
        return scaled.astype(np.float32)


class _Rest:
    """All other features of a version, by the closures of the row path."""

    def __init__(self, features: FittedFeatureSet, plain: frozenset[str]) -> None:
        spans = [(column, span) for column, span in _spans(features) if not _is_number(column, plain)]
        used = {name for column, _ in spans for name in column.inputs}
        places = [place for place, name in enumerate(features.input_columns) if name in used]
        self._names = [features.input_columns[place] for place in places]
        self._take = _taker(places)
        self.outputs = [place for _, span in spans for place in span]
        self.width = len(self.outputs)
        self._fillers = []
        start = 0
        for column, span in spans:
            self._fillers.append(column.filler(start))
            start += len(span)

    def written(self, values: Sequence[tuple[Any, ...]]) -> list[list[float]]:
        """Return the numbers of each row. Raises ``RowError``."""
        out = []
        for each in values:
            row = dict(zip(self._names, self._take(each), strict=True))
            numbers = [0.0] * self.width
            for fill in self._fillers:
                fill(row, numbers)
            out.append(numbers)
        return out


def _plain_columns(features: FittedFeatureSet) -> frozenset[str]:
    """Return the raw columns that are only read as plain numbers."""
    plain: set[str] = set()
    other: set[str] = set()
    for column in features.columns:
        is_plain = isinstance(column, NumericColumn) and column.plain
        (plain if is_plain else other).update(column.inputs)
    return frozenset(plain - other)


def _is_number(column: FittedColumn, plain: frozenset[str]) -> bool:
    return isinstance(column, NumericColumn) and column.plain and column.source in plain


def _spans(features: FittedFeatureSet) -> Iterator[tuple[FittedColumn, range]]:
    start = 0
    for column in features.columns:
        stop = start + len(column.output_names)
        yield column, range(start, stop)
        start = stop


def _taker(places: Sequence[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return what takes the values at some places of a tuple, as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: tuple(values[place] for place in places)


def _type(plain: bool) -> Any:
    return float | None if plain else Value
