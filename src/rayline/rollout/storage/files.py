"""Where the rollouts of a service are kept: a SQLite file in a folder, objects in an object store."""

from __future__ import annotations

from pathlib import Path

from rayline.rollout.storage.object_files import RolloutObjects
from rayline.rollout.storage.storage import RolloutFiles
from rayline.storage import is_object_store

RolloutStore = RolloutFiles | RolloutObjects


def rollout_files(storage: str | Path, service: str) -> RolloutStore:
    """Return the rollouts of a service; nothing is read or made. Raises ``ConfigError`` for an unknown kind of store.

    Args:
        storage: the project's state folder, or the URI of an object store.
        service: its name.
    """
    if is_object_store(storage):
        return RolloutObjects(storage, service)
    return RolloutFiles(storage, service)
