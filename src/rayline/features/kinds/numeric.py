"""A number: imputed, clipped, on a logarithmic scale, then scaled or put into bins."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import NumericConfig
from rayline.errors import RowError
from rayline.features.kinds.seam import LARGEST, MISSING, Extras, Feature, Filler, Kind, Observed, Writer, mark, read
from rayline.features.reading import canonical
from rayline.features.reading.arrow_values import LIMIT, RULES, Values
from rayline.features.reading.batch import Batch
from rayline.features.scales import Scale
from rayline.features.sketches import Moments
from rayline.features.state import ColumnState

Doubles = NDArray[np.float64]
Read = Sequence[tuple[Scale, float, Values]]

IDENTITY = Scale(bound=LARGEST)
KNOTS = 257  # of the ``quantile`` scale: its steps are 1/256 of the training values


@dataclass(frozen=True, slots=True)
class NumericColumn:
    """One number, or one output for each bin.

    Attributes:
        fill: what stands for a missing value, in the column's own units.
        flag: a last output is 1 where the value was missing.
        clip: bounds in the column's own units, or None.
        log: ``sign(x) * log(1 + |x|)`` follows.
        scale: what is done to the number; for ``knots`` and ``edges`` nothing.
        knots: values at evenly spaced shares of the training part: the number becomes its share.
        edges: inner borders of the bins, ascending; a value on a border belongs to the bin above.
    """

    name: str
    source: str
    fill: float
    flag: bool = False
    clip: tuple[float, float] | None = None
    log: bool = False
    scale: Scale = IDENTITY
    knots: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    kind: str = "numeric"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one raw column."""
        return (self.source,)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The feature's own name, or ``name[bin]`` from 0; with ``flag`` also ``name=<missing>``."""
        numbers = tuple(f"{self.name}[{place}]" for place in range(len(self.edges) + 1)) if self.edges else (self.name,)
        return (*numbers, f"{self.name}={MISSING}") if self.flag else numbers

    @property
    def plain(self) -> bool:
        """Whether nothing but imputing and scaling happens, which has a short way in both paths."""
        return not (self.flag or self.clip or self.log or self.knots or self.edges)

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """See ``FittedColumn``."""
        values = batch.values(self.source, "numeric")
        data = np.where(values.missing, self.fill, values.data) if values.gaps else values.data
        data = _before_scale(data, self.clip, self.log)
        if self.edges:
            mark(out, np.searchsorted(self.edges, data, side="right"))
        elif self.knots:
            out[:, 0] = np.interp(data, self.knots, np.linspace(0, 1, len(self.knots)))
        else:
            out[:, 0] = self.scale.many(data)
        if self.flag:
            out[:, -1] = values.missing

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        write, missing_at = self._writer(offset), offset + len(self.output_names) - 1
        source, missing, flag = self.source, self.fill, self.flag
        mean, std, bound, plain = self.scale.mean, self.scale.std, self.scale.bound, self.plain

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            value = row[source]
            if plain and (value.__class__ is float or value.__class__ is int) and -LIMIT < value < LIMIT:
                scaled = (value - mean) / std
                if -bound < scaled < bound:
                    out[offset] = scaled
                    return
            number = read(canonical.number, value, source, RULES["numeric"])
            if number is not None and not -LIMIT < number < LIMIT:
                raise RowError(0, source, value, RULES["numeric"])
            write(missing if number is None else number, out)
            if flag and number is None:
                out[missing_at] = 1.0

        return fill

    def to_json(self) -> dict[str, Any]:
        """See ``FittedColumn``."""
        return {
            "kind": self.kind,
            "name": self.name,
            "source": self.source,
            "fill": self.fill,
            "flag": self.flag,
            "clip": None if self.clip is None else list(self.clip),
            "log": self.log,
            "mean": self.scale.mean,
            "std": self.scale.std,
            "bound": self.scale.bound,
            "knots": list(self.knots),
            "edges": list(self.edges),
        }

    def _writer(self, offset: int) -> Callable[[float, list[float]], None]:
        clip, log, scale, knots, edges = self.clip, self.log, self.scale, self.knots, self.edges

        def write(number: float, out: list[float]) -> None:
            if clip is not None:
                number = min(max(number, clip[0]), clip[1])
            if log:
                number = math.copysign(math.log1p(abs(number)), number)
            if edges:
                out[offset + bisect_right(edges, number)] = 1.0
            else:
                out[offset] = _share(number, knots) if knots else scale.one(number)

        return write


@dataclass(frozen=True, slots=True)
class NumericBlock:
    """Plain numbers that stand side by side and are written together."""

    columns: tuple[NumericColumn, ...]

    def writer(self, batch: Batch) -> Writer:
        """Return what writes some rows of a batch, as the columns' own ``batch`` would. Raises ``RowError``."""
        read = [(column.scale, column.fill, batch.values(column.source, "numeric")) for column in self.columns]

        return partial(_write_compiled if batch.compiled else _write, read)


def _write(read: Read, rows: slice, out: NDArray[np.float32]) -> None:
    scratch = np.empty(len(out))
    for place, (scale, fill, values) in enumerate(read):
        np.subtract(values.data[rows], scale.mean, out=scratch)
        if values.gaps:
            np.copyto(scratch, fill - scale.mean, where=values.missing[rows])
        np.divide(scratch, scale.std, out=scratch)
        np.minimum(scratch, scale.bound, out=scratch)
        np.maximum(scratch, -scale.bound, out=scratch)
        out[:, place] = scratch


def _write_compiled(read: Read, rows: slice, out: NDArray[np.float32]) -> None:
    from rayline.features.kernels import write_scaled

    for place, (scale, fill, values) in enumerate(read):
        numbers = values.data[rows], values.missing[rows]
        write_scaled(*numbers, fill, scale.mean, scale.std, scale.bound, out, place)


def _before_scale(data: Doubles, clip: tuple[float, float] | None, log: bool) -> Doubles:
    if clip is not None:
        data = np.clip(data, *clip)
    return np.copysign(np.log1p(np.abs(data)), data) if log else data


def _share(number: float, knots: tuple[float, ...]) -> float:
    """Return what ``numpy.interp`` gives over evenly spaced shares."""
    if number <= knots[0]:
        return 0.0 if number < knots[0] or len(knots) == 1 else (bisect_right(knots, number) - 1) / (len(knots) - 1)
    if number >= knots[-1]:
        return 1.0
    above = bisect_right(knots, number)
    low, high, steps = knots[above - 1], knots[above], len(knots) - 1
    return (above - 1) / steps + (number - low) * ((1 / steps) / (high - low))


def _observe(feature: Feature, batch: Batch) -> Extras:
    """Moments of what is scaled, where that is not the raw number."""
    setting = _setting(feature)
    if setting.scale != "standard" or setting.bins or not (setting.clip or setting.log):
        return {}
    values: Values = batch.values(feature.input.name, "numeric")
    return {"scaled": Moments.of(_before_scale(values.present, setting.clip, setting.log))}


def _finish(feature: Feature, observed: Observed) -> NumericColumn:
    setting, state = _setting(feature), observed.columns[feature.input.name]
    # Ranks are the same on any rising scale. Two libraries' logarithms differ in the last bit, so that a number on a
    # border would be on one side of it in a batch and on the other in a row.
    log = setting.log and not setting.bins and setting.scale != "quantile"
    fill = _fill(setting, state)
    column = NumericColumn(feature.name, feature.input.name, fill, setting.flag, setting.clip, log)
    if not state.moments.count:
        return column

    def quantiles(shares: Doubles) -> tuple[float, ...]:
        found = state.quantiles.at(shares.tolist(), state.moments.minimum, state.moments.maximum)
        return tuple(_before_scale(found, setting.clip, log).tolist())

    if setting.bins:
        edges = sorted(set(quantiles(np.arange(1, setting.bins) / setting.bins)))
        return replace(column, edges=tuple(edges))
    if setting.scale == "quantile":
        return replace(column, knots=_rising(quantiles(np.linspace(0, 1, KNOTS))))
    scaled = observed.extras.get("scaled", state.moments)
    assert isinstance(scaled, Moments)
    return replace(column, scale=_scale(setting, scaled, state.moments, quantiles))


def _fill(setting: NumericConfig, state: ColumnState) -> float:
    if isinstance(setting.impute, str):
        if setting.impute == "median" and state.moments.count:
            return float(state.quantiles.at([0.5], state.moments.minimum, state.moments.maximum)[0])
        return state.moments.mean if setting.impute == "mean" else 0.0
    return float(setting.impute)


def _scale(
    setting: NumericConfig, scaled: Moments, raw: Moments, quantiles: Callable[[Doubles], tuple[float, ...]]
) -> Scale:
    if setting.scale == "standard":
        return Scale.standard(scaled)
    if setting.scale == "robust":
        quarter, middle, three = quantiles(np.array([0.25, 0.5, 0.75]))
        return Scale(middle, three - quarter or 1.0)
    if setting.scale == "minmax":
        low, high = _before_scale(np.array([raw.minimum, raw.maximum]), setting.clip, setting.log).tolist()
        return Scale(low, high - low or 1.0)
    return IDENTITY


def _rising(knots: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(np.maximum.accumulate(knots).tolist())


def _setting(feature: Feature) -> NumericConfig:
    assert isinstance(feature.setting, NumericConfig)
    return feature.setting


def _restore(raw: Mapping[str, Any]) -> NumericColumn:
    return NumericColumn(
        raw["name"],
        raw["source"],
        raw["fill"],
        raw["flag"],
        None if raw["clip"] is None else tuple(raw["clip"]),
        raw["log"],
        Scale(raw["mean"], raw["std"], raw["bound"]),
        tuple(raw["knots"]),
        tuple(raw["edges"]),
    )


KIND = Kind("numeric", _finish, _restore, _observe)
