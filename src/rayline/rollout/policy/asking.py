"""An experiment under way: one more look at the feedback, and the answer once it is known. Pure."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from rayline.config import ExperimentConfig
from rayline.rollout.analysis.analysis import Measurement
from rayline.rollout.analysis.sequential import Answer, answer, effect
from rayline.rollout.policy.rounds import Arms
from rayline.rollout.state import AnalysisRun
from rayline.serving.records.observation import ArmStats, Observation

ERROR_LIMIT = 4
"""Looks in a row that may fail; as in Argo Rollouts."""

SAID: dict[Answer, str] = {
    "canary": "v{canary} is better",
    "stable": "v{stable} is better",
    "equal": "v{canary} and v{stable} differ by less than matters",
}

Outcome = Answer | Literal["undecided", "error"]


def looked(
    config: ExperimentConfig, run: AnalysisRun, arms: Arms, observation: Observation | None, error: str, now: float
) -> tuple[AnalysisRun, Measurement]:
    """Return the experiment after one more look, and what the look gave."""
    measurement = _look(config, run, arms, observation, error)
    tally = run.tallies[0]
    decides = measurement.verdict == "Successful"
    tally = replace(
        tally,
        successful=tally.successful + decides,
        inconclusive=tally.inconclusive + (measurement.verdict == "Inconclusive"),
        errors_in_a_row=tally.errors_in_a_row + 1 if measurement.verdict == "Error" else 0,
        last=measurement,
    )
    return replace(run, tallies=(tally,), rounds=run.rounds + 1, due=now + config.interval), measurement


def answered(config: ExperimentConfig, run: AnalysisRun, now: float) -> tuple[Outcome, str]:
    """Return who is better, with the words; empty while it goes on.

    ``undecided``: the time or the rows are used up. ``error``: it could not be looked at for some time.
    """
    tally = run.tallies[0]
    last = tally.last
    assert last is not None
    if last.verdict == "Successful":
        return _winner(last), last.reason
    if tally.errors_in_a_row > ERROR_LIMIT:
        return "error", last.reason
    if sum(last.samples) >= config.max_samples:
        return "undecided", f"undecided after {sum(last.samples)} rows of feedback (max_samples): {last.reason}"
    if now - run.began >= config.max_duration:
        return "undecided", f"undecided after {config.max_duration:g} s (max_duration): {last.reason}"
    return "", ""


def _look(
    config: ExperimentConfig, run: AnalysisRun, arms: Arms, observation: Observation | None, error: str
) -> Measurement:
    what = config.measure.replace("_", " ")
    if observation is None:
        return Measurement(what, "Error", None, None, f"{what} could not be measured: {error}")
    counts = observation.only(columns=False, slices=False).since(run.baseline)
    mine, theirs = counts.get(arms.canary, ArmStats()), counts.get(arms.stable, ArmStats())
    sizes = (mine.feedback, theirs.feedback)
    shown = f"n = {sizes[0]} and {sizes[1]}"
    found = effect(config, theirs, mine)
    if found is None:
        reason = f"{what} of canary v{arms.canary} has too few samples: {shown}, minimum {config.minimum_samples}"
        return Measurement(what, "Inconclusive", None, None, reason, samples=sizes)
    by = answer(config, found)
    said = SAID[by].format(canary=arms.canary, stable=arms.stable) if by else "not known yet"
    reason = (
        f"{said}: {what} of canary v{arms.canary} {found.canary:.4g}, of stable v{arms.stable} {found.stable:.4g}; "
        f"gain {found.text} at {config.confidence:.4g} confidence ({shown})"
    )
    verdict: Literal["Successful", "Inconclusive"] = "Successful" if by else "Inconclusive"
    low, high = found.estimate.low, found.estimate.high
    return Measurement(what, verdict, found.canary, found.stable, reason, low, high, sizes, slice=by)


def _winner(last: Measurement) -> Outcome:
    return last.slice if last.slice in SAID else "undecided"
