"""Rollouts as earlier versions of Rayline kept them: ``rollout.json`` and ``rollouts/*.json``, taken over once."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rayline.errors import ServiceError
from rayline.rollout.state import RolloutState

CURRENT, BEFORE = "rollout.json", "rollouts"
TAKEN = ".taken-over"


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in a service's folder: the current rollout, and those before it."""

    current: RolloutState | None
    before: tuple[RolloutState, ...]


def found(folder: Path) -> Found | None:
    """Return the rollouts that an earlier version left in a service's folder; None where there are none.

    Raises:
        ServiceError: one is damaged.
    """
    current, before = folder / CURRENT, sorted((folder / BEFORE).glob("*.json"))
    if not current.is_file() and not before:
        return None
    return Found(_read(current) if current.is_file() else None, tuple(_read(path) for path in before))


def put_away(folder: Path) -> None:
    """Rename what was taken over, so that it is kept and never taken over again."""
    for name in (CURRENT, BEFORE):
        with suppress(FileNotFoundError):
            (folder / name).rename(folder / f"{name}{TAKEN}")


def _read(path: Path) -> RolloutState:
    try:
        return RolloutState.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ServiceError) as error:
        raise ServiceError(f"rollout '{path}' is damaged: {error}. Move the file away to begin anew.") from error
