"""A rollout on disk: the current one of a service in ``rollout.json``, those before it in ``rollouts/``."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rayline.errors import ServiceError
from rayline.rollout.state import RolloutState
from rayline.serving.names import service_folder

Sign = tuple[int, int]
"""When a file was modified, in nanoseconds, and its inode: each write makes a new one, two within one tick of the clock
too. Zeros where there is no file."""


class RolloutFiles:
    """The rollouts of one service. A file is always whole: it is written beside, flushed to disk and renamed."""

    def __init__(self, storage: str | Path, service: str) -> None:
        """Name the files; nothing is read or made."""
        self.storage = str(storage)
        self.service = service
        folder = service_folder(storage, service)
        self._current = folder / "rollout.json"
        self._heartbeat = folder / "rollout.alive"
        self._earlier = folder / "rollouts"

    def read(self) -> RolloutState | None:
        """Return the current rollout, or None before the first. Raises ``ServiceError`` where it is damaged."""
        return _read(self._current) if self._current.exists() else None

    def write(self, state: RolloutState) -> None:
        """Make ``state`` the current rollout's, on disk when this returns."""
        _write(self._current, state)

    def archive(self, state: RolloutState) -> None:
        """Keep a rollout that another one is to follow. Doing it twice does no more."""
        _write(self._earlier / f"{state.id}.json", state)

    def history(self) -> tuple[RolloutState, ...]:
        """Return all rollouts, the latest first."""
        current = self.read()
        paths = sorted(self._earlier.glob("*.json"), reverse=True)
        earlier = [_read(path) for path in paths if current is None or path.stem != current.id]
        return tuple(earlier) if current is None else (current, *earlier)

    def beat(self) -> None:
        """Leave a sign that a controller is at work."""
        self._heartbeat.parent.mkdir(parents=True, exist_ok=True)
        self._heartbeat.touch()

    def signs(self) -> tuple[Sign, Sign]:
        """Return what changes when a rollout moves, and when its controller is at work."""
        return _sign(self._current), _sign(self._heartbeat)


def _sign(path: Path) -> Sign:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino


def _read(path: Path) -> RolloutState:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ServiceError(f"rollout '{path}' is damaged: {error}. Move the file away to begin anew.") from error
    try:
        return RolloutState.from_json(raw)
    except ServiceError as error:
        raise ServiceError(f"rollout '{path}': {error} Move the file away to begin anew.") from error


def _write(path: Path, state: RolloutState) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(state.to_json(), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
