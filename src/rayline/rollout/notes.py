"""What a rollout wants told: an outbox that is emptied beside the traffic, never before it.

Notes to the registry, notes to runs and calls of hooks are three lanes: each is delivered in order, and none waits for
another. Delivering a note twice leaves the same result, but for ``OpenRun``, which a crash in the wrong moment leaves
behind as an empty run, and for a hook, which hears the same ``id`` twice. Pure.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from rayline.config import HookConfig

POINTS_KEPT = 20_000


class OpenRun(Struct, frozen=True, tag="open_run"):
    """Open the MLflow run of a rollout."""

    rollout: str
    experiment: str
    name: str
    tags: dict[str, str]


class Points(Struct, frozen=True, tag="points"):
    """Log (name, value, step) points to a rollout's run, all measured ``at`` one Unix time."""

    rollout: str
    points: tuple[tuple[str, float, int], ...]
    at: float = 0.0


class Decisions(Struct, frozen=True, tag="decisions"):
    """Write a rollout's decisions so far as an artifact, over the earlier ones."""

    rollout: str
    text: str


class FinishRun(Struct, frozen=True, tag="finish_run"):
    """Close a rollout's run, with its last tags."""

    rollout: str
    status: Literal["FINISHED", "FAILED", "KILLED"]
    tags: dict[str, str]


class SetAlias(Struct, frozen=True, tag="set_alias"):
    """Point an alias at a version."""

    alias: str
    number: int


class DropAlias(Struct, frozen=True, tag="drop_alias"):
    """Take an alias off a version, where it still points at it."""

    alias: str
    number: int


class TagVersion(Struct, frozen=True, tag="tag_version"):
    """Set tags of a version."""

    number: int
    tags: dict[str, str]


class CallHook(Struct, frozen=True, tag="call_hook"):
    """Tell a hook what happened.

    Attributes:
        hook: who is told, and how.
        body: JSON-ready: ``id, event, rollout, service, kind, stable, canary, phase, step, weight, reason, at``.
    """

    hook: HookConfig
    body: dict[str, str | int | float]


Note = OpenRun | Points | Decisions | FinishRun | SetAlias | DropAlias | TagVersion | CallHook
Lane = Literal["registry", "runs", "hooks"]


def lane(note: Note) -> Lane:
    """Return the lane that a note travels in."""
    if isinstance(note, CallHook):
        return "hooks"
    return "registry" if isinstance(note, SetAlias | DropAlias | TagVersion) else "runs"


def added(notes: tuple[Note, ...], note: Note) -> tuple[Note, ...]:
    """Return the outbox with one more note: points join those that wait, a newer text replaces an older one.

    So the outbox stays small however long the store is away; beyond ``POINTS_KEPT`` the oldest points are let go.
    """
    if isinstance(note, Points | Decisions):
        for place, waiting in enumerate(notes):
            if type(waiting) is type(note) and waiting.rollout == note.rollout:
                joined: Note = note
                if isinstance(note, Points) and isinstance(waiting, Points):
                    joined = replace(note, points=(waiting.points + note.points)[-POINTS_KEPT:])
                return (*notes[:place], joined, *notes[place + 1 :])
    return (*notes, note)


def without(notes: tuple[Note, ...], taken: Note) -> tuple[Note, ...]:
    """Return the outbox after the store took a note; what was joined to it meanwhile stays."""
    for place, waiting in enumerate(notes):
        if waiting == taken:
            return (*notes[:place], *notes[place + 1 :])
        if isinstance(waiting, Points) and isinstance(taken, Points) and waiting.rollout == taken.rollout:
            size = len(taken.points)
            if waiting.points[:size] == taken.points:
                return (*notes[:place], replace(waiting, points=waiting.points[size:]), *notes[place + 1 :])
    return notes
