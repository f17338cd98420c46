"""The slices on which a model is worse than elsewhere, found among the values and bins of all columns and their pairs.

As in Slice Finder (Y. Chung, T. Kraska, N. Polyzotis, K. H. Tae, S. E. Whang, "Slice Finder: Automated Data Slicing for
Model Validation", ICDE 2019) a slice is compared with all other rows by the loss of each row: by Welch's one-sided t
test, and by its effect size, the difference of the means in pooled standard deviations. Slice Finder spends its error
by alpha-investing as it goes; here all slices are tested, and S. Holm's correction (Scandinavian Journal of Statistics
6, 1979) keeps the chance to name *any* slice of a model that errs alike everywhere below ``1 - confidence``, half of it
for single columns and half for pairs. A pair must be worse than the rest of either of its two slices too: one bad
column does not drag all its pairs along.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rayline.config import EvaluateConfig
from rayline.evaluation.levels import Levels, levels_of
from rayline.evaluation.slices import Slice

if TYPE_CHECKING:
    import pyarrow as pa

Doubles = NDArray[np.float64]
LEAST_EFFECT = 0.2
"""A difference that is sure but smaller than this is not told: small in the words of J. Cohen (1988)."""
MOST_VALUES = 200  # a text of more distinct values names rows, not groups of rows
PAIRED_COLUMNS = 40  # of more, those whose levels differ most are paired
SEARCHED = 100_000  # rows that are searched; what is found is then measured on all
LOOKED_AT = 200  # of the slices that are worse, how many are compared with each other


@dataclass(frozen=True, slots=True)
class Worst:
    """A slice that is worse than the other rows.

    Attributes:
        slice: its rows.
        loss: their mean loss, in the unit of ``scores.row_losses``.
        rest: that of all other rows.
        effect: the difference in pooled standard deviations.
        chance: at most so likely is any such slice where the model errs alike everywhere (Holm).
    """

    slice: Slice
    loss: float
    rest: float
    effect: float
    chance: float


@dataclass(frozen=True, slots=True)
class _Sums:
    """Rows, losses and squared losses of k groups, each float64 (k,)."""

    rows: Doubles
    loss: Doubles
    square: Doubles

    @classmethod
    def of(cls, codes: NDArray[np.int64], losses: Doubles, width: int) -> _Sums:
        counted = np.bincount(codes, minlength=width).astype(np.float64)
        loss, square = (np.asarray(np.bincount(codes, each, minlength=width)) for each in (losses, losses**2))
        return cls(counted, loss.astype(np.float64), square.astype(np.float64))

    def without(self, part: _Sums) -> _Sums:
        return _Sums(self.rows - part.rows, self.loss - part.loss, self.square - part.square)

    def at(self, chosen: NDArray[np.int64]) -> _Sums:
        return _Sums(self.rows[chosen], self.loss[chosen], self.square[chosen])

    @property
    def mean(self) -> Doubles:
        return self.loss / np.maximum(self.rows, 1)

    @property
    def variance(self) -> Doubles:
        spread = self.square - self.loss * self.mean
        return np.where(self.rows > 1, np.maximum(spread, 0) / np.maximum(self.rows - 1, 1), 0.0)


@dataclass(frozen=True, slots=True)
class _Found:
    """One tested slice: the levels that make it, its effect and its chance, corrected later."""

    levels: tuple[tuple[int, int], ...]
    rows: int
    effect: float
    chance: float


def worst_slices(
    table: pa.Table, losses: Doubles, config: EvaluateConfig, leave_out: Iterable[str] = ()
) -> tuple[Worst, ...]:
    """Return the slices on which a model is surely worse, the largest effect first; none is a good answer.

    Slices that say the same are told once: a slice counts only for its rows outside the slices told before it.

    Args:
        table: n raw rows; columns that are no inputs are looked at too.
        losses: float64 (n,), how wrong each answer is.
        config: how many slices, of how many rows at least, and the confidence.
        leave_out: columns that are not looked at, such as the target.
    """
    if not config.worst_slices or table.num_rows < 2 * config.min_slice_rows:
        return ()
    columns = _levels(table, set(leave_out))
    chosen = _searched(table.num_rows)
    codes = [each.codes[chosen] for each in columns.values()]
    least = config.min_slice_rows * len(chosen) / table.num_rows
    search = _Search(codes, losses[chosen], least, 1 - config.confidence)
    sure = search.sure([len(each.texts) for each in columns.values()])
    told: list[Worst] = []
    seen = np.zeros(table.num_rows, dtype=bool)
    for found in sorted(sure, key=lambda each: (-each.effect, len(each.levels), -each.rows))[:LOOKED_AT]:
        if len(told) == config.worst_slices:
            break
        worst = _measured(found, columns, losses)
        if _tells_more(worst.slice.rows, losses, seen, config):
            told.append(worst)
            seen[worst.slice.rows] = True
    return tuple(told)


@dataclass(frozen=True, slots=True)
class _Search:
    """The levels of each column and the losses of the rows that are searched; ``error`` is the chance to name any."""

    codes: list[NDArray[np.int64]]
    losses: Doubles
    least: float
    error: float

    def sure(self, widths: list[int]) -> list[_Found]:
        """Return all slices that are worse after the correction."""
        codes = self.codes
        whole = _Sums.of(np.zeros(len(self.losses), dtype=np.int64), self.losses, 1)
        sums = [_Sums.of(each, self.losses, width) for each, width in zip(codes, widths, strict=True)]
        singles = [found for place, each in enumerate(sums) for found in self._singles(place, each, whole)]
        strongest: dict[int, float] = {}
        for found in singles:
            strongest[found.levels[0][0]] = max(strongest.get(found.levels[0][0], -math.inf), found.effect)
        paired = sorted(sorted(strongest, key=lambda place: -strongest[place])[:PAIRED_COLUMNS])
        pairs = [
            found
            for one, two in itertools.combinations(paired, 2)
            for found in self._pairs((one, two), (codes[one], codes[two]), (sums[one], sums[two]), whole)
        ]
        # Columns were left unpaired because their levels differ little: they count as tested all the same.
        unpaired = math.comb(len(strongest), 2) / max(1, math.comb(len(paired), 2))
        return [*self._corrected(singles, 1.0), *self._corrected(pairs, unpaired)]

    def _singles(self, place: int, sums: _Sums, whole: _Sums) -> Iterator[_Found]:
        chosen = self._large_enough(sums, whole)
        part = sums.at(chosen)
        rest = whole.without(part)
        for code, rows, effect, chance in zip(
            chosen.tolist(), part.rows.tolist(), _effect(part, rest).tolist(), _chance(part, rest).tolist(), strict=True
        ):
            yield _Found(((place, code),), int(rows), effect, chance)

    def _pairs(
        self,
        places: tuple[int, int],
        codes: tuple[NDArray[np.int64], NDArray[np.int64]],
        parents: tuple[_Sums, _Sums],
        whole: _Sums,
    ) -> Iterator[_Found]:
        height, width = (len(each.rows) for each in parents)
        sums = _Sums.of(codes[0] * width + codes[1], self.losses, height * width)
        chosen = self._large_enough(sums, whole)
        part = sums.at(chosen)
        rest = whole.without(part)
        first, second = parents[0].at(chosen // width), parents[1].at(chosen % width)
        chance = np.max([_chance(part, each) for each in (rest, first.without(part), second.without(part))], axis=0)
        for code, rows, effect, each in zip(
            chosen.tolist(), part.rows.tolist(), _effect(part, rest).tolist(), chance.tolist(), strict=True
        ):
            yield _Found(((places[0], code // width), (places[1], code % width)), int(rows), effect, each)

    def _large_enough(self, sums: _Sums, whole: _Sums) -> NDArray[np.int64]:
        return np.flatnonzero((sums.rows >= self.least) & (whole.rows - sums.rows >= self.least))

    def _corrected(self, family: list[_Found], untested: float) -> Iterator[_Found]:
        """Give those of a family that are worse, by Holm's step-down at half of the error."""
        largest, tests = 0.0, len(family) * untested
        for place, each in enumerate(sorted(family, key=lambda found: found.chance)):
            largest = max(largest, min(1.0, 2 * each.chance * (tests - place)))
            if largest > self.error:
                return
            if each.effect >= LEAST_EFFECT:
                yield _Found(each.levels, each.rows, each.effect, largest)


def _levels(table: pa.Table, leave_out: set[str]) -> dict[str, Levels]:
    found = {
        name: levels_of(table.column(name), name, most=MOST_VALUES)
        for name in table.column_names
        if name not in leave_out
    }
    return {name: each for name, each in found.items() if each is not None}


def _searched(rows: int) -> NDArray[np.int64]:
    if rows <= SEARCHED:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, SEARCHED, replace=False))


def _measured(found: _Found, columns: dict[str, Levels], losses: Doubles) -> Worst:
    names = list(columns)
    inside = np.ones(len(losses), dtype=bool)
    texts = []
    for place, code in found.levels:
        levels = columns[names[place]]
        inside &= levels.codes == code
        texts.append(levels.texts[code])
    column = " & ".join(names[place] for place, _ in found.levels)
    part, rest = _two(losses, inside, ~inside)
    effect = float(_effect(part, rest)[0])
    rows = np.flatnonzero(inside)
    return Worst(Slice(" & ".join(texts), column, rows), float(part.mean[0]), float(rest.mean[0]), effect, found.chance)


def _tells_more(rows: NDArray[np.int64], losses: Doubles, seen: NDArray[np.bool_], config: EvaluateConfig) -> bool:
    """Tell whether a slice is worse than the rest without the rows that were told already."""
    inside = np.zeros(len(losses), dtype=bool)
    inside[rows] = True
    part, rest = _two(losses, inside & ~seen, ~inside & ~seen)
    if min(part.rows[0], rest.rows[0]) < config.min_slice_rows:
        return False
    return bool(_chance(part, rest)[0] <= 1 - config.confidence and _effect(part, rest)[0] >= LEAST_EFFECT)


def _two(losses: Doubles, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[_Sums, _Sums]:
    one, two = (_Sums.of(np.zeros(np.count_nonzero(each), dtype=np.int64), losses[each], 1) for each in (first, second))
    return one, two


def _effect(part: _Sums, rest: _Sums) -> Doubles:
    spread = np.sqrt((part.variance + rest.variance) / 2)
    return np.asarray((part.mean - rest.mean) / np.where(spread > 0, spread, np.inf))


def _chance(part: _Sums, rest: _Sums) -> Doubles:
    """Return the one-sided chance of Welch's t test that ``part`` has no larger mean; 1 where it cannot be tested."""
    from scipy.special import stdtr

    with np.errstate(invalid="ignore", divide="ignore"):
        one, two = part.variance / part.rows, rest.variance / rest.rows
        freedom = (one + two) ** 2 / (one**2 / (part.rows - 1) + two**2 / (rest.rows - 1))
        chance = stdtr(freedom, -(part.mean - rest.mean) / np.sqrt(one + two))
    usable = (part.rows > 1) & (rest.rows > 1) & np.isfinite(chance)
    return np.where(usable, chance, 1.0)
