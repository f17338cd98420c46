"""What the controller saw of both arms last, small enough to lie beside the state for those who watch. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from rayline.serving.records.observation import ArmStats, Observation


class Arm(Struct, frozen=True):
    """One version over the window.

    Attributes:
        number: the version.
        requests: answered.
        error_rate: share of them; None without requests.
        p50, p95: latency in seconds; None without requests.
        feedback: rows whose truth arrived.
        accuracy: share of these that were right; None for a regression, or without feedback.
        mean_absolute_error: over these, in the target's units; None for a classification, or without feedback.
    """

    number: int
    requests: int
    error_rate: float | None = None
    p50: float | None = None
    p95: float | None = None
    feedback: int = 0
    accuracy: float | None = None
    mean_absolute_error: float | None = None


class Glance(Struct, frozen=True):
    """Both arms since the current step began, as of one moment.

    Attributes:
        rollout: its id.
        at: Unix time.
        seconds: how long the window is.
        arms: stable, then canary.
    """

    rollout: str
    at: float
    seconds: float
    arms: tuple[Arm, ...]

    def to_text(self) -> str:
        """Return it as JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_text(cls, text: str) -> Glance | None:
        """Return what ``to_text`` gave; None for anything else."""
        try:
            return msgspec.json.decode(text, type=cls) if text else None
        except msgspec.MsgspecError:
            return None


def glance(rollout: str, numbers: tuple[int, ...], now: Observation, earlier: Observation) -> Glance:
    """Return what the versions ``numbers`` did between two observations."""
    stats = now.since(earlier)
    arms = tuple(_arm(number, stats.get(number, ArmStats())) for number in numbers)
    return Glance(rollout, now.at, max(0.0, now.at - earlier.at), arms)


def _arm(number: int, stats: ArmStats) -> Arm:
    # A classification counts what was right, a regression sums up errors: the other number stays 0.
    measures_error = stats.absolute_error > 0.0
    told = stats.feedback > 0
    return Arm(
        number=number,
        requests=stats.requests,
        error_rate=stats.errors / stats.requests if stats.requests else None,
        p50=stats.latency(0.5),
        p95=stats.latency(0.95),
        feedback=stats.feedback,
        accuracy=stats.correct / stats.feedback if told and not measures_error else None,
        mean_absolute_error=stats.absolute_error / stats.feedback if told and measures_error else None,
    )
