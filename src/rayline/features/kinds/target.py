"""A level as the mean of the target over its rows, cross-fitted: a training row is encoded without its own fold.

Rows go into folds by a hash of their inputs, so that equal rows share one. The encoding of a training row of fold f is
made of the rows of all other folds, the overall mean among them; a served row's of all training rows. It is
``(sum + smoothing * mean) / (rows + smoothing)`` (the m-estimate of Micci-Barreca 2001), where a missing value is a
level of its own, and a level that is not kept gets the overall mean. A regression's is then measured in standard
deviations from that mean, as the network's own target is; a classification's are shares, one for each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rayline.errors import DataError
from rayline.features.kinds.seam import Extras, Feature, Filler, Kind, Observed
from rayline.features.kinds.vocabulary import kept_levels, setting_of, slot_reader, slots_of
from rayline.features.reading.batch import Batch, target_names
from rayline.features.sketches import Moments, TargetSums
from rayline.features.sketches.targets import ABSENT

Table = tuple[tuple[float, ...], ...]

SUMS = "sums"
LUMPED = 20  # rows of one level that all lie in one fold: with independent folds that is no chance


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """The target's mean by level.

    Attributes:
        names: of the target's columns: ``("",)``, or the classes.
        means: by level, then of an unknown and of a missing value: (levels + 2) x columns.
        folds: the same for the training rows of each fold: folds x (levels + 2) x columns.
    """

    name: str
    source: str
    names: tuple[str, ...]
    levels: tuple[str, ...]
    means: Table
    folds: tuple[Table, ...]
    kind: str = "categorical"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one raw column."""
        return (self.source,)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The feature's own name; ``name=class`` where there are more than two classes."""
        return tuple(f"{self.name}={each}" if each else self.name for each in self.names)

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """See ``FittedColumn``."""
        slots = slots_of(batch.values(self.source, "categorical"), self.levels)
        if training:
            folds = (batch.folds % np.uint64(len(self.folds))).astype(np.int64)
            out[:] = np.array(self.folds)[folds, slots]
        else:
            out[:] = np.array(self.means)[slots]

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        slot_of, means, end = slot_reader(self.source, self.levels), self.means, offset + len(self.names)

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            out[offset:end] = means[slot_of(row)]

        return fill

    def to_json(self) -> dict[str, Any]:
        """See ``FittedColumn``."""
        return {
            "kind": self.kind,
            "encode": "target",
            "name": self.name,
            "source": self.source,
            "names": list(self.names),
            "levels": list(self.levels),
            "means": [list(each) for each in self.means],
            "folds": [[list(each) for each in fold] for fold in self.folds],
        }


def _observe(feature: Feature, batch: Batch) -> Extras:
    """Return the sums by level and fold, and for a regression the target's moments by fold."""
    schema, number = batch.schema, setting_of(feature).folds
    values = batch.values(feature.input.name, "categorical")
    regression = schema.task == "regression"
    usable = ~batch.values(schema.target, "numeric" if regression else "categorical").missing
    folds = (batch.folds % np.uint64(number)).astype(np.int64)[usable]
    target = batch.target[usable]
    sums = TargetSums.of(values.texts, values.codes[usable], folds, target, target_names(schema), number)
    if not regression:
        return {SUMS: sums}
    return {SUMS: sums, **{_fold(each): Moments.of(target[folds == each, 0]) for each in range(number)}}


def _finish(feature: Feature, observed: Observed) -> TargetColumn:
    setting, sums = setting_of(feature), cast(TargetSums, observed.extras[SUMS])
    levels = kept_levels(feature, observed)
    _refuse_lumps(feature, sums)
    places = {text: place for place, text in enumerate(sums.texts, 2)}
    # A level that was counted but let go from the sums is encoded like one without a row.
    chosen = np.array([*(places.get(level, -1) for level in levels), -1, ABSENT])
    means = _Means(sums, chosen, Fraction(setting.smoothing))
    every = range(sums.folds)
    spreads = {each: cast(Moments, observed.extras[_fold(each)]) for each in every if _fold(each) in observed.extras}
    tables = tuple(means.over([each for each in every if each != fold], spreads) for fold in every)
    names = (feature.name, feature.input.name, sums.names)
    return TargetColumn(*names, levels, means.over(list(every), spreads), tables)


class _Means:
    """The smoothed means of some levels over some folds."""

    def __init__(self, sums: TargetSums, chosen: NDArray[np.int64], smoothing: Fraction) -> None:
        self.smoothing, self.unit = smoothing, sums.unit
        held = (chosen >= 0)[:, np.newaxis]
        self.counts = np.where(held, sums.counts[chosen], 0)
        self.sums = np.where(held[..., np.newaxis], sums.exact(chosen), 0)
        self.all_counts = sums.counts.sum(axis=0)
        self.all_sums = sums.totals()

    def over(self, folds: list[int], spreads: Mapping[int, Moments]) -> Table:
        """Return the means by level and column of the target; zeros where these folds have no rows."""
        rows, columns = int(self.all_counts[folds].sum()), self.all_sums.shape[1]
        if not rows:
            return ((0.0,) * columns,) * len(self.counts)
        overall = [int(each) * self.unit / rows for each in self.all_sums[folds].sum(axis=0)]
        spread = _spread([spreads[each] for each in folds]) if spreads else None
        counts, sums = self.counts[:, folds].sum(axis=1).tolist(), self.sums[:, folds].sum(axis=1).tolist()
        table = []
        for count, totals in zip(counts, sums, strict=True):
            weight = count + self.smoothing
            pairs = zip(totals, overall, strict=True)
            if not weight:
                means = overall
            else:
                means = [(total * self.unit + self.smoothing * mean) / weight for total, mean in pairs]
            table.append(tuple(map(float, means)) if spread is None else (float(means[0] - overall[0]) / spread,))
        return tuple(table)


def _spread(moments: list[Moments]) -> float:
    merged = Moments()
    for each in moments:
        merged = merged.merged(each)
    return merged.std if merged.varies and merged.std > 0 else 1.0


def _refuse_lumps(feature: Feature, sums: TargetSums) -> None:
    """Raise ``DataError`` where most rows lie in levels that are in one fold only: there is nothing to encode them by.

    That is so where a level's rows are all alike, as in a table of a few categories.
    """
    rows = sums.counts[2:].sum(axis=1)
    lumped = int(rows[(rows >= LUMPED) & (sums.counts[2:].max(axis=1, initial=0) == rows)].sum())
    if 2 * lumped > int(rows.sum()):
        raise DataError(
            f"features.columns.{feature.name}: a target encoding of '{feature.input.name}' cannot be cross-fitted, "
            f"since {lumped:,} of {int(rows.sum()):,} training rows have a level whose rows are equal in all inputs. "
            "Use `encode: one_hot`, or give the features a column that tells these rows apart."
        )


def _fold(number: int) -> str:
    return f"fold {number}"


def _restore(raw: Mapping[str, Any]) -> TargetColumn:
    means, *folds = (tuple(tuple(each) for each in table) for table in (raw["means"], *raw["folds"]))
    return TargetColumn(raw["name"], raw["source"], tuple(raw["names"]), tuple(raw["levels"]), means, tuple(folds))


ENCODING = Kind("target", _finish, _restore, _observe)
