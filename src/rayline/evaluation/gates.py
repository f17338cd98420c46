"""Gates as pure decisions: measured values of a version, and of the champion, give a verdict with its inequality.

A limit that holds passes, and one that is broken fails only where chance cannot explain it: where the one-sided bound
of ``intervals`` breaks it too. Both models answer the same rows and are resampled together, so that what both find hard
counts for neither. A gate over ``k`` slices divides its error rate among them (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rayline.config import GateConfig

Better = Literal["min", "max", "zero"]
Verdict = Literal["passed", "failed", "inconclusive"]

MIN_ROWS = 30
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured for one gate, on all rows or in one slice.

    Attributes:
        where: the slice, as ``weathersit=3``; empty for all rows.
        rows: how many there were; None where rows play no part, as for the bundle's size.
        value: of the version; None where it could not be measured.
        champion: of the champion on the same rows; None where there is none, or where it cannot be compared.
        low, high: one-sided bounds at the gate's confidence: of ``value - champion`` where the gate compares, else of
            ``value``. NaN where there are none.
        why: why a value is missing.
    """

    where: str
    rows: int | None
    value: float | None
    champion: float | None = None
    low: float = math.nan
    high: float = math.nan
    why: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """How one gate, or one behavioural test, came out.

    Attributes:
        what: the metric, or the test's name.
        where: the slice; empty for all rows.
        verdict: see the module.
        reason: an inequality with both numbers, or why there is none.
        rows: how many it was judged on; None where rows play no part.
        needed: about how many would decide it; None where it is decided, or where that cannot be told.
        stops: whether this verdict keeps the version from being blessed.
        value: of the version.
        champion: of the champion.
        test: whether it is a behavioural test.
    """

    what: str
    where: str
    verdict: Verdict
    reason: str
    rows: int | None = None
    needed: int | None = None
    stops: bool = False
    value: float | None = None
    champion: float | None = None
    test: bool = False

    def told(self, version: str) -> str:
        """Return it in words: ``rmse of version 4 on weathersit=3 (n = 212) 61.2 > champion v3 48 + 2``."""
        on = f" on {self.where}" if self.where else ""
        rows = f" (n = {self.rows})" if self.rows is not None else ""
        if self.test:
            return f"{version}, {self.what}{rows}: {self.reason}"
        return f"{self.what} of {version}{on}{rows} {self.reason}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a version came out of all its gates and behavioural tests.

    Attributes:
        baseline: the champion's number; None where there was none.
        champion: the champion's digest.
        gates: in the order of the configuration, slices in theirs; then the limits of the infrastructure.
        behaviour: in the order of the configuration.
        notes: what a person should know of how it was judged.
    """

    baseline: int | None
    champion: str | None
    gates: tuple[Judged, ...]
    behaviour: tuple[Judged, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def every(self) -> tuple[Judged, ...]:
        """All of them."""
        return (*self.gates, *self.behaviour)

    @property
    def refusals(self) -> tuple[Judged, ...]:
        """What keeps the version from being blessed."""
        return tuple(each for each in self.every if each.stops)

    @property
    def undecided(self) -> tuple[Judged, ...]:
        """What could not be decided and stops nothing."""
        return tuple(each for each in self.every if each.verdict == "inconclusive" and not each.stops)

    @property
    def blessed(self) -> bool:
        """Whether nothing said no."""
        return not self.refusals


def judge(gate: GateConfig, better: Better, sample: Sample, *, baseline: str, min_rows: int) -> Judged:
    """Judge one gate on all rows, or in one slice.

    Args:
        gate: what must be reached.
        better: which way the metric is better: less, more, or nearer to zero.
        sample: what was measured.
        baseline: what the champion is called, ``champion v3``; empty where there is none: a comparison passes then.
        min_rows: fewer decide nothing.
    """
    if gate.compare is not None and not baseline:
        return _judged(gate, sample, "passed", "has no baseline: there is no champion yet")
    if sample.rows is not None and sample.rows < min_rows:
        rule = f"has too few rows to decide: {min_rows} are needed"
        return _judged(gate, sample, "inconclusive", rule, needed=min_rows)
    missing = _missing(gate, sample)
    if missing:
        return _judged(gate, sample, "inconclusive", missing)
    over = excess(gate, better, sample)
    words = _inequality(gate, better, sample, over.value, baseline)
    if over.value <= ROUNDING and not (gate.proven and over.high > ROUNDING):
        return _judged(gate, sample, "passed", words)
    if over.value > ROUNDING and over.low > 0:
        return _judged(gate, sample, "failed", words)
    reach = over.high - over.value if over.value <= ROUNDING else over.value - over.low
    return _undecided(gate, sample, words, abs(over.value), reach)


@dataclass(frozen=True, slots=True)
class Excess:
    """By how much a limit is broken, in the metric's own units, with one-sided bounds; not above 0 where it holds."""

    value: float
    low: float
    high: float


def excess(gate: GateConfig, better: Better, sample: Sample) -> Excess:
    """Return by how much a sample, whose values are there, breaks a gate's limit.

    A relative margin is taken of the champion's value on these rows. Of a metric that should be near zero, the distance
    from zero counts.
    """
    assert sample.value is not None
    if gate.compare is not None:
        assert sample.champion is not None
        allowed = (gate.margin or 0.0) + (gate.relative_margin or 0.0) * abs(sample.champion)
        worse = sample.value - sample.champion
        if better == "max":
            return Excess(-worse - allowed, -sample.high - allowed, -sample.low - allowed)
        return Excess(worse - allowed, sample.low - allowed, sample.high - allowed)
    if gate.at_least is not None:
        return Excess(gate.at_least - sample.value, gate.at_least - sample.high, gate.at_least - sample.low)
    assert gate.at_most is not None
    value, low, high = sample.value, sample.low, sample.high
    if better == "zero":
        ends = (abs(low), abs(high))
        value, low, high = abs(value), 0.0 if low <= 0 <= high else min(ends), max(ends)
    return Excess(value - gate.at_most, low - gate.at_most, high - gate.at_most)


def behaved(name: str, held: int, rows: int, *, at_least: float, min_rows: int, rule: str, worst: str) -> Judged:
    """Judge a behavioural test by the share of rows where it held.

    Args:
        name: what messages call it.
        held: in how many rows it held.
        rows: in how many it was tried.
        at_least: the share of rows that is needed.
        min_rows: fewer decide nothing.
        rule: what must hold, in words.
        worst: the row that broke it most, in words; empty where none did.
    """
    share = held / rows if rows else None
    verdict: Verdict
    needed = None
    if rows < min_rows or share is None:
        verdict, needed = "inconclusive", max(min_rows, 1)
        reason = f"has too few rows to decide: {needed} are needed"
    elif share >= at_least - ROUNDING:
        verdict, reason = "passed", f"{rule} in {share:.1%} >= {at_least:.1%} of rows"
    else:
        verdict = "failed"
        reason = f"{rule} in {share:.1%} < {at_least:.1%} of rows" + (f"; worst: {worst}" if worst else "")
    return Judged(name, "", verdict, reason, rows, needed, verdict != "passed", share, test=True)


def tried(infrastructure: Mapping[str, Any] | None) -> tuple[Judged, ...]:
    """Judge what a bundle did in a process of its own, as ``evaluation.json`` has it: it serves, within each limit.

    Args:
        infrastructure: its part of that name; None where it was not tried.
    """
    if infrastructure is None:
        return ()
    if infrastructure["failure"]:
        reason = f"failed in a process of its own: {infrastructure['failure']}"
        return (Judged("serving", "", "failed", reason, stops=True),)
    return tuple(_limited(each) for each in infrastructure["verdicts"])


def _limited(verdict: Mapping[str, Any]) -> Judged:
    value, what = verdict["value"], verdict["quantity"]
    if value is None:
        return Judged(what, "", "inconclusive", "could not be measured", stops=True)
    holds = bool(verdict["ok"])
    reason = f"{_plain(value)} {'<=' if holds else '>'} {_plain(verdict['limit'])}"
    return Judged(what, "", "passed" if holds else "failed", reason, stops=not holds, value=value)


def default_gates(metric: str, better: Better) -> tuple[GateConfig, ...]:
    """Return what is asked where no gates are given: not to be worse than the champion by much, on all rows.

    Nobody asked for it, so that a small test part, which decides nothing, is told and stops nothing.
    """
    if better == "max":
        return (GateConfig(metric=metric, compare="champion", margin=0.02, inconclusive="tell"),)
    return (GateConfig(metric=metric, compare="champion", relative_margin=0.05, inconclusive="tell"),)


def summary(judgement: Judgement) -> str:
    """Return one line about a judgement, for people."""
    every = judgement.every
    against = "no baseline" if judgement.baseline is None else f"against champion v{judgement.baseline}"
    if not every:
        return "blessed: no gates are asked"
    counts = [(sum(each.verdict == word for each in every), word) for word in ("passed", "failed", "inconclusive")]
    told = ", ".join(f"{count} {word}" for count, word in counts if count)
    return f"{'blessed' if judgement.blessed else 'not blessed'}: {told} of {len(every)} ({against})"


def _judged(gate: GateConfig, sample: Sample, verdict: Verdict, reason: str, needed: int | None = None) -> Judged:
    stops = verdict == "failed" or (verdict == "inconclusive" and gate.stops)
    return Judged(gate.metric, sample.where, verdict, reason, sample.rows, needed, stops, sample.value, sample.champion)


def _missing(gate: GateConfig, sample: Sample) -> str:
    """Return why the values do not allow a verdict; empty where they do."""
    wanted = [sample.value] if gate.compare is None else [sample.value, sample.champion]
    values = [each for each in (*wanted, sample.low, sample.high) if each is not None]
    if None in wanted or not all(math.isfinite(each) for each in values):
        return f"could not be judged: {sample.why or 'it is not defined on these rows'}"
    return ""


def _undecided(gate: GateConfig, sample: Sample, words: str, over: float, reach: float) -> Judged:
    """Return an inconclusive verdict with about how many rows would decide: the reach shrinks as the root of them."""
    reason, needed = f"{words}, which chance could explain", None
    if sample.rows is not None and over > ROUNDING and reach > over:
        needed = math.ceil(sample.rows * (reach / over) ** 2)
        reason += f"; about {needed:,} rows would decide"
    return _judged(gate, sample, "inconclusive", reason, needed)


def _inequality(gate: GateConfig, better: Better, sample: Sample, over: float, baseline: str) -> str:
    below = better == "max" if gate.compare is not None else gate.at_least is not None
    holds, broken = (">=", "<") if below else ("<=", ">")
    value = f"{_shown(sample.value, better)} {broken if over > ROUNDING else holds}"
    if gate.compare is None:
        return f"{value} {_plain(gate.at_least if gate.at_least is not None else gate.at_most)}"
    margin = _plain(gate.margin or 0.0) if gate.relative_margin is None else f"{_plain(gate.relative_margin * 100)} %"
    return f"{value} {baseline} {_shown(sample.champion, better)} {'-' if better == 'max' else '+'} {margin}"


def _shown(value: float | None, better: Better) -> str:
    return f"|{_plain(value)}|" if better == "zero" else _plain(value)


def _plain(value: float | None) -> str:
    return f"{value:,.0f}" if value is not None and 1e3 <= abs(value) < 1e9 else f"{value:.4g}"


def to_json(judgement: Judgement) -> dict[str, Any]:
    """Return JSON-ready values, for the ledger and for tags."""
    from dataclasses import asdict

    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(judgement).items()}


def from_json(raw: dict[str, Any]) -> Judgement:
    """Return the judgement that ``to_json`` wrote."""
    parts: dict[str, Sequence[Judged]] = {
        part: tuple(Judged(**each) for each in raw[part]) for part in ("gates", "behaviour")
    }
    return Judgement(
        raw["baseline"], raw["champion"], tuple(parts["gates"]), tuple(parts["behaviour"]), tuple(raw["notes"])
    )
