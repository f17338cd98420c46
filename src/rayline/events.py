"""What a flow tells while it works. The command line draws these; a driver script may collect them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """A step has begun."""

    step: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A step has ended: after ``seconds``, or at once because its result was ``cached``."""

    step: str
    seconds: float
    cached: bool
    summary: str


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch of the running training has ended."""

    number: int
    of: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Resumed:
    """A step goes on where an earlier attempt of it stopped: after so many of its epochs, or of its trials."""

    step: str
    after: int
    of: int
    what: str = "epoch"


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial of the running Study has ended."""

    number: int
    of: int
    status: str
    params: Mapping[str, object]
    score: str


@dataclass(frozen=True, slots=True)
class TrialEpoch:
    """A running trial (from 0) of ``trials`` has come to an epoch; told now and then."""

    trial: int
    trials: int
    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the user should know, and that stops nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """A new part of a longer show begins."""

    title: str


@dataclass(frozen=True, slots=True)
class RolloutMoved:
    """A rollout changed: its phase in Argo Rollouts' words, the canary's share in percent, and why."""

    phase: str
    stable: int
    canary: int
    weight: int
    message: str


Event = Started | Finished | Epoch | Resumed | TrialEpoch | TrialEnded | Notice | Chapter | RolloutMoved
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """Hear an event and do nothing."""
