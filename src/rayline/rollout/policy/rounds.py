"""An analysis under way: one more round of measurements, and the verdict once there is one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from rayline.config import AnalysisConfig, MetricCondition
from rayline.rollout.analysis.analysis import Measurement, judge, judge_external, measured_outside
from rayline.rollout.analysis.external import Wanted, wanted
from rayline.rollout.analysis.intervals import spent
from rayline.rollout.analysis.limits import Verdict, compares
from rayline.rollout.analysis.measures import label
from rayline.rollout.state import AnalysisRun, Tally
from rayline.serving.records.observation import ArmStats, Observation


@dataclass(frozen=True, slots=True)
class Arms:
    """Whose counts are compared.

    Attributes:
        service: the service's name.
        stable: a version number.
        canary: a version number.
    """

    service: str
    stable: int
    canary: int

    @property
    def names(self) -> tuple[str, str]:
        """The arms in words, stable first."""
        return f"stable v{self.stable}", f"canary v{self.canary}"


@dataclass(frozen=True, slots=True)
class Read:
    """What could be read for a round.

    Attributes:
        observation: the counts, or None.
        error: why there are none.
        external: measurements from outside by key, or why there is none.
    """

    observation: Observation | None
    error: str
    external: Mapping[str, float | str]


def fresh(config: AnalysisConfig, step: int, weight: int, now: float) -> AnalysisRun:
    """Return an analysis that has measured nothing yet."""
    tallies = tuple(Tally(label(condition), dry_run=condition.dry_run) for condition in config.metrics)
    return AnalysisRun(step, weight, now + config.initial_delay + config.interval, tallies, began=now)


def needs_counts(config: AnalysisConfig) -> bool:
    """Tell whether any measure is of the service's own counts."""
    return any(not measured_outside(condition) for condition in config.metrics)


def pared(config: AnalysisConfig, seen: Observation) -> Observation:
    """Return of an observation what the analysis looks at: it is kept as the baseline, of each replica, on disk."""
    return seen.only(
        columns=any(condition.measure == "feature_drift" for condition in config.metrics),
        slices=any(condition.by_slice for condition in config.metrics),
    )


def wanted_outside(config: AnalysisConfig, arms: Arms) -> tuple[Wanted, ...]:
    """Return the measurements that a round takes outside the service, each once."""
    found: dict[str, Wanted] = {}
    for condition in config.metrics:
        if measured_outside(condition):
            for number in (arms.canary, arms.stable) if compares(condition) else (arms.canary,):
                each = wanted(condition, arms.service, number)
                found[each.key] = each
    return tuple(found.values())


def ready(config: AnalysisConfig, run: AnalysisRun, arms: Arms, read: Read) -> bool:
    """Tell whether all that a round needs was asked for; what could not be read counts as asked."""
    counts = not needs_counts(config) or read.observation is not None or bool(read.error)
    outside = wanted_outside(config, arms)
    return counts and (not outside or bool(read.error) or any(each.key in read.external for each in outside))


def measured(
    config: AnalysisConfig, run: AnalysisRun, arms: Arms, read: Read, now: float, alpha: float
) -> tuple[AnalysisRun, tuple[Measurement, ...]]:
    """Return the analysis after one more round, and what the round gave.

    Each look gets its part of ``alpha``, the chance of the whole analysis to fail a canary that keeps its limits, and
    of that each condition that decides an equal share.
    """
    deciding = max(1, sum(not condition.dry_run for condition in config.metrics))
    level = spent(alpha / deciding, run.rounds + 1, config.count)
    counts = pared(config, read.observation).since(run.baseline) if read.observation is not None else None
    found = tuple(_one(condition, arms, read, counts, level) for condition in config.metrics)
    tallies = tuple(_tallied(tally, each) for tally, each in zip(run.tallies, found, strict=True))
    return replace(run, tallies=tallies, rounds=run.rounds + 1, due=now + config.interval), found


def ended(run: AnalysisRun, config: AnalysisConfig) -> tuple[Verdict | None, str]:
    """Return how an analysis ended, or None while it goes on.

    Success needs every condition Successful ``count`` times, and in the latest round too: the window only grows, so
    the latest measurement is the one that knows most. A dry run decides nothing and is told.
    """
    verdict, reason = alarm(run, config)
    deciding = [tally for tally in run.tallies if not tally.dry_run]
    if verdict is None and run.rounds:
        done = all(
            each.successful >= config.count and each.last and each.last.verdict == "Successful" for each in deciding
        )
        unsure = next((each for each in deciding if each.inconclusive > config.inconclusive_limit), None)
        if done and (deciding or run.rounds >= config.count):
            verdict, reason = "Successful", "; ".join(_reason(tally) for tally in deciding) or "nothing but dry runs"
        elif unsure is not None:
            verdict, reason = "Inconclusive", _reason(unsure)
    if verdict is None and run.rounds >= most_rounds(config):
        verdict, reason = "Inconclusive", f"no verdict after {run.rounds} rounds; " + "; ".join(map(_reason, deciding))
    return verdict, reason + _dry(run) if verdict else ""


def alarm(run: AnalysisRun, config: AnalysisConfig) -> tuple[Verdict | None, str]:
    """Return Failed or Error where an analysis has come to that: all that one in the background can decide."""
    deciding = [tally for tally in run.tallies if not tally.dry_run]
    broken = [tally for tally in deciding if tally.failed > config.failure_limit]
    if broken:
        worst = next((each for each in broken if each.last and each.last.verdict == "Failed"), broken[0])
        return "Failed", _reason(worst)
    for tally in deciding:
        if tally.errors_in_a_row > config.consecutive_error_limit:
            return "Error", _reason(tally)
    return None, ""


def most_rounds(config: AnalysisConfig) -> int:
    """Return after how many rounds an analysis without a verdict is given up: all its limits together allow no more."""
    each = config.failure_limit + config.inconclusive_limit + config.consecutive_error_limit + 1
    return config.count + len(config.metrics) * each


def _one(
    condition: MetricCondition, arms: Arms, read: Read, counts: Mapping[int, ArmStats] | None, alpha: float
) -> Measurement:
    if measured_outside(condition):
        keys = [wanted(condition, arms.service, number).key for number in (arms.canary, arms.stable)]
        missing = read.error or "it was not measured"
        canary, stable = (read.external.get(key, missing) for key in keys)
        return judge_external(condition, canary, stable if compares(condition) else None, names=arms.names)
    if counts is None:
        what = label(condition)
        return Measurement(what, "Error", None, None, f"{what} could not be measured: {read.error}")
    mine, theirs = counts.get(arms.canary, ArmStats()), counts.get(arms.stable, ArmStats())
    return judge(condition, theirs, mine, names=arms.names, alpha=alpha)


def _tallied(tally: Tally, measurement: Measurement) -> Tally:
    verdict = measurement.verdict
    return replace(
        tally,
        successful=tally.successful + (verdict == "Successful"),
        failed=tally.failed + (verdict == "Failed"),
        inconclusive=tally.inconclusive + (verdict == "Inconclusive"),
        errors_in_a_row=tally.errors_in_a_row + 1 if verdict == "Error" else 0,
        last=measurement,
    )


def _reason(tally: Tally) -> str:
    return tally.last.reason if tally.last else tally.measure


def _dry(run: AnalysisRun) -> str:
    told = [f"{tally.last.verdict}: {tally.last.reason}" for tally in run.tallies if tally.dry_run and tally.last]
    return f" (dry run: {'; '.join(told)})" if told else ""
