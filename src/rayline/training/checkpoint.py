"""Checkpoints: one folder an epoch, written aside and renamed, verified by digest when it is read.

``checkpoints/epoch-00007`` holds the family's own files, ``state.json`` (the epoch, and every report up to it) and
``manifest.json`` (SHA-256 of each file, written last). A whole folder is never replaced, so that a killed writer leaves
only drafts, which are ignored and removed by the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayline import storage
from rayline.training.health import disk_full, no_room

FOLDER = "checkpoints"
STATE = "state.json"
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
_PREFIX = "epoch-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint: its epoch, its folder, and the state that was written with it."""

    epoch: int
    path: Path
    state: dict[str, Any]


def write(out: Path, epoch: int, save: Callable[[Path], None], state: dict[str, Any]) -> Path:
    """Write the checkpoint of an epoch, whole or not at all; a whole one that is there already stays.

    Args:
        out: the training's folder.
        epoch: from 1.
        save: writes the family's own files into the folder that it is given.
        state: JSON-ready values.

    Returns:
        The checkpoint's folder.

    Raises:
        EnvironmentFailed: there is no room for it; the message says where, how much it needs, and what to change.
    """
    place = folder_of(out, epoch)
    if place.exists() and read(out, epoch) is not None:
        return place
    draft = place.with_name(f".{place.name}-{uuid.uuid4().hex[:8]}")
    try:
        draft.mkdir(parents=True)
        save(draft)
        (draft / STATE).write_text(json.dumps({"epoch": epoch, **state}, indent=1), encoding="utf-8")
        digests = {file.name: _digest(file) for file in sorted(draft.iterdir())}
        (draft / MANIFEST).write_text(json.dumps(digests, indent=1), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)  # only of a damaged one: a whole one has been returned above
        os.rename(draft, place)
        storage.keep_soon(place)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if disk_full(error):
            raise no_room(error, _standing(out), getattr(save, "size", None) or _last_size(out)) from error
        raise
    return place


def latest(out: Path, notice: Callable[[str], None] = lambda text: None) -> Checkpoint | None:
    """Return the last whole checkpoint, or None; ``notice`` hears of each damaged one that is passed over."""
    for epoch in reversed(epochs(out)):
        found = read(out, epoch)
        if found is not None:
            return found
        notice(f"checkpoint '{folder_of(out, epoch)}' is damaged or half written: it is passed over")
    return None


def read(out: Path, epoch: int) -> Checkpoint | None:
    """Return the checkpoint of an epoch where every file has the digest that was written with it, else None."""
    place = storage.fetch(folder_of(out, epoch))
    try:
        digests = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        if any(_digest(place / name) != digest for name, digest in digests.items()):
            return None
        return Checkpoint(epoch, place, json.loads((place / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError):
        return None


def prune(out: Path, keep: Iterable[int]) -> None:
    """Remove the checkpoints of all epochs but some, and what killed writers left."""
    kept = set(keep)
    for epoch in _epochs(out):
        if epoch not in kept:
            shutil.rmtree(folder_of(out, epoch), ignore_errors=True)
            storage.forget_soon(folder_of(out, epoch))
    for draft in (out / FOLDER).glob(f".{_PREFIX}*"):
        shutil.rmtree(draft, ignore_errors=True)


def folder_of(out: Path, epoch: int) -> Path:
    """Return where the checkpoint of an epoch lies."""
    return out / FOLDER / f"{_PREFIX}{epoch:05d}"


def epochs(out: Path) -> list[int]:
    """Return the epochs that there are checkpoints of, in order: here, or in the storage."""
    return sorted(_numbers(storage.names(out / FOLDER)))


def _standing(folder: Path) -> Path:
    return next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))


def _last_size(out: Path) -> int | None:
    """Return the bytes of the last checkpoint: those of one training are alike."""
    known = _epochs(out)
    return sum(file.stat().st_size for file in folder_of(out, max(known)).iterdir()) if known else None


def _epochs(out: Path) -> list[int]:
    return _numbers(place.name for place in (out / FOLDER).glob(f"{_PREFIX}*"))


def _numbers(names: Iterable[str]) -> list[int]:
    numbers = (name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))
    return [int(number) for number in numbers if number.isdecimal()]


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
