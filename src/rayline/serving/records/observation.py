"""What a live service has done so far: cumulative counts per replica and version, and their differences.

Counts only grow while a replica lives, so that a window is the difference between two observations and the observer
needs no clock in common with the replicas.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import msgspec
import numpy as np

BUCKETS_PER_DECADE = 10

LATENCY_EDGES: tuple[float, ...] = tuple(1e-4 * 10 ** (step / BUCKETS_PER_DECADE) for step in range(56))
"""Upper edges of the latency buckets in seconds, 0.1 ms to 32 s; one more bucket holds what is slower."""


def latency_bucket(seconds: float) -> int:
    """Return the index of the bucket that a latency belongs to, 0 to ``len(LATENCY_EDGES)``."""
    return bisect_right(LATENCY_EDGES, seconds)


@dataclass(frozen=True, slots=True)
class SliceStats:
    """The counts of one version on the rows of one slice, such as ``weathersit=3``.

    Attributes:
        rows: answered.
        feedback, correct, absolute_error, squared_error: as of ``ArmStats``.
    """

    rows: int = 0
    feedback: int = 0
    correct: int = 0
    absolute_error: float = 0.0
    squared_error: float = 0.0


@dataclass(frozen=True, slots=True)
class ShadowStats:
    """What a mirrored version said beside the version that answered, row by row.

    Attributes:
        rows: compared.
        agreed: the same label, or values that differ by at most a hundredth of the target's deviation.
        distance: sum over rows of the total variation distance between probabilities (0 to 1), or of the absolute
            difference of values in the target's units.
        squared_distance: sum of their squares.
        dropped: rows that were not mirrored, as too many waited.
        errors: rows that the mirrored version could not answer.
        seconds: sum of what its passes took; each answers many rows, so ``seconds / rows`` is no request's latency.
        slices: slice to (rows compared, rows that disagreed).
    """

    rows: int = 0
    agreed: int = 0
    distance: float = 0.0
    squared_distance: float = 0.0
    dropped: int = 0
    errors: int = 0
    seconds: float = 0.0
    slices: dict[str, tuple[int, int]] = field(default_factory=dict)

    def plus(self, other: ShadowStats) -> ShadowStats:
        """Return the sum of two disjoint sets of counts."""
        total: ShadowStats = _merged(self, other, 1)
        return total


@dataclass(frozen=True, slots=True)
class ArmStats:
    """The counts of one version: since its replica began, summed over replicas, or between two moments.

    Attributes:
        requests: answered requests, one per HTTP call however many rows it held.
        errors: 5xx answers and non-finite predictions; a 4xx counts as neither request nor error.
        latency_counts: requests per bucket of ``LATENCY_EDGES``, seconds inside the replica.
        prediction_counts: rows per class label, or per bin index as text for a regression.
        feedback: rows whose truth arrived.
        correct: of these, rows whose label was predicted (classification).
        absolute_error: sum of absolute errors over ``feedback`` rows, in the target's units (regression).
        squared_error: sum of their squares.
        feature_counts: column to level, or bin index as text, to rows: the same bins for every version.
        slices: slice to its counts.
        shadow: what it said to requests that others answered.
    """

    requests: int = 0
    errors: int = 0
    latency_counts: tuple[int, ...] = (0,) * (len(LATENCY_EDGES) + 1)
    prediction_counts: dict[str, int] = field(default_factory=dict)
    feedback: int = 0
    correct: int = 0
    absolute_error: float = 0.0
    squared_error: float = 0.0
    feature_counts: dict[str, dict[str, int]] = field(default_factory=dict)
    slices: dict[str, SliceStats] = field(default_factory=dict)
    shadow: ShadowStats = ShadowStats()

    def plus(self, other: ArmStats) -> ArmStats:
        """Return the sum of two disjoint sets of counts."""
        return self._merged(other, 1)

    def minus(self, earlier: ArmStats) -> ArmStats:
        """Return what was counted after ``earlier``, an older observation of the same counters."""
        return self._merged(earlier, -1)

    def latency(self, quantile: float) -> float | None:
        """Return the latency in seconds at ``quantile`` (0 to 1), interpolated in its bucket; None with no request."""
        total = sum(self.latency_counts)
        if total == 0:
            return None
        rank = quantile * total
        below = 0
        for bucket, count in enumerate(self.latency_counts):
            if count and below + count >= rank:
                low = LATENCY_EDGES[bucket - 1] if bucket else 0.0
                high = LATENCY_EDGES[bucket] if bucket < len(LATENCY_EDGES) else low
                return low + (high - low) * max(0.0, rank - below) / count
            below += count
        return LATENCY_EDGES[-1]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        raw: dict[str, Any] = msgspec.to_builtins(self)
        return raw

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ArmStats:
        """Return the counts that ``to_json`` wrote, or an older version of it."""
        return msgspec.convert(raw, cls)

    def _merged(self, other: ArmStats, sign: int) -> ArmStats:
        merged: ArmStats = _merged(self, other, sign)
        return merged


def _merged(mine: Any, theirs: Any, sign: int) -> Any:
    """Return ``mine + sign * theirs`` for counts however they are nested; what one side lacks counts as nothing."""
    if is_dataclass(mine):
        return replace(
            mine,  # type: ignore[type-var]
            **{each.name: _merged(getattr(mine, each.name), getattr(theirs, each.name), sign) for each in fields(mine)},
        )
    if isinstance(mine, dict):
        blank = next(iter((*mine.values(), *theirs.values())), None)
        zero = _merged(blank, blank, -1) if blank is not None else None
        return {key: _merged(mine.get(key, zero), theirs.get(key, zero), sign) for key in {**mine, **theirs}}
    if isinstance(mine, tuple):
        return tuple(_merged(one, other, sign) for one, other in zip(mine, theirs, strict=True))
    return mine + sign * theirs


Pairs = Sequence[tuple[ArmStats, ArmStats | None]]
"""Counts of one version in many replicas: now, and at an earlier moment where the replica was there."""


def _gained(pairs: Pairs) -> ArmStats:
    """Return ``sum(now - before)``, added up in place: a fleet has a thousand replicas with hundreds of counts each."""
    now, before = [each for each, _ in pairs], [each for _, each in pairs if each is not None]
    scalars = {name: sum(getattr(each, name) for each in now) for name in ("requests", "errors", "feedback", "correct")}
    for name in scalars:
        scalars[name] -= sum(getattr(each, name) for each in before)
    latency = np.array([each.latency_counts for each in now]).sum(axis=0)
    if before:
        latency -= np.array([each.latency_counts for each in before]).sum(axis=0)
    columns: dict[str, dict[str, int]] = {}
    slices: dict[str, list[Any]] = {}
    predictions: dict[str, int] = {}
    absolute, squared, shadow = 0.0, 0.0, _NO_SHADOW
    for each, earlier in pairs:
        known = earlier or _NOTHING
        absolute += each.absolute_error - known.absolute_error
        squared += each.squared_error - known.squared_error
        _add(predictions, each.prediction_counts, known.prediction_counts)
        for column, levels in each.feature_counts.items():
            _add(columns.setdefault(column, {}), levels, known.feature_counts.get(column, {}))
        for name, part in each.slices.items():
            _add_slice(slices.setdefault(name, [0, 0, 0, 0.0, 0.0]), part, known.slices.get(name, _NO_SLICE))
        if each.shadow != known.shadow:
            shadow = shadow.plus(_merged(each.shadow, known.shadow, -1))
    return ArmStats(
        **scalars,
        latency_counts=tuple(latency.tolist()),
        prediction_counts=predictions,
        absolute_error=absolute,
        squared_error=squared,
        feature_counts=columns,
        slices={name: SliceStats(*part) for name, part in slices.items()},
        shadow=shadow,
    )


def _add(total: dict[str, int], now: Mapping[str, int], before: Mapping[str, int]) -> None:
    for key, count in now.items():
        total[key] = total.get(key, 0) + count - before.get(key, 0)


def _add_slice(total: list[Any], now: SliceStats, before: SliceStats) -> None:
    total[0] += now.rows - before.rows
    total[1] += now.feedback - before.feedback
    total[2] += now.correct - before.correct
    total[3] += now.absolute_error - before.absolute_error
    total[4] += now.squared_error - before.squared_error


_NOTHING, _NO_SHADOW, _NO_SLICE = ArmStats(), ShadowStats(), SliceStats()


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at a service.

    Attributes:
        at: unix seconds.
        generation: of the traffic plan at that moment.
        replicas: replica id to version number to its cumulative counts. A restarted replica has a new id.
    """

    at: float
    generation: int
    replicas: dict[str, dict[int, ArmStats]]

    def since(self, earlier: Observation | None) -> dict[int, ArmStats]:
        """Return counts per version after ``earlier``, over the replicas seen now; new replicas count from 0."""
        before = earlier.replicas if earlier is not None else {}
        pairs: dict[int, list[tuple[ArmStats, ArmStats | None]]] = {}
        for replica, versions in self.replicas.items():
            known = before.get(replica, {})
            for number, stats in versions.items():
                pairs.setdefault(number, []).append((stats, known.get(number)))
        return {number: _gained(each) for number, each in pairs.items()}

    def only(self, *, columns: bool, slices: bool) -> Observation:
        """Return the observation with or without its counts by column and by slice, which are most of it."""
        left: dict[str, Any] = {} if columns else {"feature_counts": {}}

        def pared(stats: ArmStats) -> ArmStats:
            less = left if slices else {**left, "slices": {}, "shadow": replace(stats.shadow, slices={})}
            return replace(stats, **less)

        if columns and slices:
            return self
        replicas = {
            replica: {number: pared(stats) for number, stats in versions.items()}
            for replica, versions in self.replicas.items()
        }
        return replace(self, replicas=replicas)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        replicas = {
            replica: {str(number): stats.to_json() for number, stats in versions.items()}
            for replica, versions in self.replicas.items()
        }
        return {"at": self.at, "generation": self.generation, "replicas": replicas}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Observation:
        """Return the observation that ``to_json`` wrote."""
        replicas = {
            replica: {int(number): ArmStats.from_json(stats) for number, stats in versions.items()}
            for replica, versions in raw["replicas"].items()
        }
        return cls(float(raw["at"]), int(raw["generation"]), replicas)
