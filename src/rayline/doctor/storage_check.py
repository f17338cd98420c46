"""Can the storage be written, read back and cleaned?"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rayline import storage as kept
from rayline.doctor.machine import existing
from rayline.doctor.seam import Finding, Subject
from rayline.errors import StorageError
from rayline.storage.objects import objects
from rayline.storage.places import place_of

SLOW_SECONDS = 2.0
WAY_OUT = "Give this user the right to write there, or set 'storage' to another place."


class StorageCheck:
    """Puts a small file there, reads it back and deletes it; a folder that is still to be made is left unmade."""

    name = "storage"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        if subject.config is None:
            return [Finding("skipped", "no configuration says where it is")]
        storage = subject.config.storage
        if not kept.is_object_store(storage) and not Path(storage).is_dir():
            return [_to_be_made(Path(storage))]
        began = time.monotonic()
        try:
            wrong = _tried(kept.folder_of(storage))
        except OSError as error:
            return [Finding("failed", f"'{storage}' cannot be written: {error.strerror or error}", WAY_OUT)]
        seconds = time.monotonic() - began
        if wrong:
            return [Finding("failed", f"'{storage}' {wrong}", WAY_OUT)]
        seen = f"'{storage}' takes, gives back and deletes a file in {1000 * seconds:.0f} ms"
        if seconds > SLOW_SECONDS:
            return [Finding("notice", seen, "Put it nearer: each step of a run writes there.")]
        return [Finding("ok", seen)]


def _to_be_made(folder: Path) -> Finding:
    in_the_way = next((each for each in (folder, *folder.parents) if each.is_file()), None)
    if in_the_way is not None:
        return Finding("failed", f"'{folder}' cannot be made: '{in_the_way}' is a file", WAY_OUT)
    above = existing(folder)
    if os.access(above, os.W_OK | os.X_OK):
        return Finding("ok", f"'{folder}' will be made: '{above}' can be written")
    return Finding("failed", f"'{folder}' cannot be made: '{above}' cannot be written", WAY_OUT)


def _tried(folder: Path) -> str:
    """Return what is wrong, empty where nothing is."""
    folder.mkdir(parents=True, exist_ok=True)  # of an object store: where its files are worked on
    probe, word = folder / f".doctor-{secrets.token_hex(4)}", secrets.token_hex(16)
    try:
        probe.write_text(word, encoding="utf-8")
        kept.keep(probe)
        place = place_of(probe)
        if place is not None:
            probe.unlink()
            if objects(place.scheme, place.bucket).swap(place.key, b"another", None) is not None:
                return "takes no condition on a write, so that two drivers could overwrite each other"
        back = kept.refresh(probe)
        return "" if back.read_text(encoding="utf-8") == word else "gives back something else than it was given"
    finally:
        probe.unlink(missing_ok=True)
        with suppress(StorageError):  # the first one says why
            kept.forget(probe)
