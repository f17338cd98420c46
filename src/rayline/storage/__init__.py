"""Where a project's state lies: a folder, or an object store that is worked on through a folder.

Everything else works with local paths. A path under an object store's folder is a copy: ``keep`` puts what was finished
there into the store, ``fetch`` and ``refresh`` bring what another process, on another node, has finished. In a plain or
shared folder all of them do nothing.
"""

from __future__ import annotations

from pathlib import Path

from rayline.storage.keeping import exists, fetch, fetch_part, files_below, forget, is_kept, keep, names, refresh
from rayline.storage.leases import Hold, Holder, held
from rayline.storage.places import own, place_of, place_of_uri, scratch
from rayline.storage.soon import forget_soon, keep_soon, settle

__all__ = [
    "Hold",
    "Holder",
    "exists",
    "fetch",
    "fetch_part",
    "files_below",
    "folder_of",
    "forget",
    "forget_soon",
    "held",
    "is_kept",
    "is_object_store",
    "keep",
    "keep_soon",
    "names",
    "refresh",
    "settle",
    "uri_of",
]


def folder_of(storage: str | Path) -> Path:
    """Return the local folder through which ``storage`` (a path, or a URI such as ``s3://bucket/prefix``) is used.

    Raises:
        ConfigError: the URI names a store that is not known, or no bucket.
    """
    text = str(storage)
    place = place_of_uri(text)
    if place is not None:
        return place.within(scratch())
    return own(Path(text.removeprefix("file://")))


def uri_of(path: Path) -> str:
    """Return what a person may call a path: its URI where it stands for an object, else the path itself."""
    place = place_of(path)
    return str(path) if place is None else place.uri


def is_object_store(storage: str | Path) -> bool:
    """Tell whether a storage, or a path in its folder, stands for objects. Raises ``ConfigError`` as ``folder_of``."""
    return place_of_uri(str(storage)) is not None or place_of(Path(storage)) is not None
