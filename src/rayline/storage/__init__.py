"""Where a project's state lies: a folder, or an object store that is worked on through a folder.

Everything else works with local paths. A path under an object store's folder is a copy: ``keep`` puts what was finished
there into the store, ``fetch`` brings what another process, on another node, has finished. In a plain or shared folder
both do nothing.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["fetch", "folder_of", "keep"]


def folder_of(storage: str | Path) -> Path:
    """Return the local folder through which ``storage`` (a path, or a URI such as ``s3://bucket/prefix``) is used."""
    return Path(storage)


def keep(path: Path) -> None:
    """Put a finished file or folder into the storage that it belongs to. In a plain folder there is nothing to do."""


def fetch(path: Path) -> Path:
    """Bring a file or folder here that another node finished, and return it. In a plain folder nothing is done."""
    return path
