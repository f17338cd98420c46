"""Which object a local path stands for.

An object store is worked on through a scratch folder whose path says the whole of it:
``SCRATCH/rayline@s3/BUCKET/KEY`` stands for ``s3://BUCKET/KEY``. So a path alone, wherever it was made, tells every
process on every node which object it is.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from rayline.errors import ConfigError, suggestion

SCHEMES = ("s3", "gs", "az")
SCRATCH = "RAYLINE_SCRATCH"
MARK = "rayline@"
RECEIPTS = ".receipts"


@dataclass(frozen=True, slots=True)
class Place:
    """One place in an object store: an object, or all whose keys begin with ``key/``.

    Attributes:
        scheme: one of ``SCHEMES``.
        bucket: the bucket, or Azure's container.
        key: without slashes at its ends; empty for the whole bucket.
    """

    scheme: str
    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """The place as a URI."""
        return f"{self.scheme}://{self.bucket}" + (f"/{self.key}" if self.key else "")

    def within(self, root: Path) -> Path:
        """Return the local path of the place under a scratch folder."""
        return root / f"{MARK}{self.scheme}" / self.bucket / self.key


def place_of_uri(uri: str) -> Place | None:
    """Return the place that a URI names; None of what is a path of the file system.

    Raises:
        ConfigError: it names a store that is not known, or no bucket.
    """
    if "://" not in uri:
        return None
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return None
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"storage '{uri}' is of the kind '{parts.scheme}'. {suggestion(parts.scheme, SCHEMES)} "
            "Or give a folder that every node sees."
        )
    key = PurePosixPath(parts.path.strip("/"))
    if not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc or ".." in key.parts:
        raise ConfigError(f"storage '{uri}' must read {parts.scheme}://BUCKET or {parts.scheme}://BUCKET/PREFIX.")
    return Place(parts.scheme, parts.netloc, "" if key == PurePosixPath(".") else str(key))


def place_of(path: Path) -> Place | None:
    """Return the place that a local path stands for; None of one in a plain folder."""
    text = str(path)
    start = text.find(f"/{MARK}")
    if start < 0:
        return None
    scheme, _, rest = text[start + 1 + len(MARK) :].partition("/")
    bucket, _, key = rest.partition("/")
    return Place(scheme, bucket, key.strip("/")) if scheme in SCHEMES and bucket else None


def root_of(path: Path) -> Path:
    """Return the scratch folder that a path with a place lies in."""
    text = str(path)
    return Path(text[: text.index(f"/{MARK}")])


def scratch() -> Path:
    """Return this process's scratch folder: ``RAYLINE_SCRATCH``, else one of the user's own for temporary files.

    Raises:
        ConfigError: the default folder belongs to somebody else.
    """
    named = os.environ.get(SCRATCH)
    if named:
        return Path(named).absolute()
    folder = Path(tempfile.gettempdir()).resolve() / f"rayline-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(f"'{folder}' belongs to another user. Set {SCRATCH} to a folder of your own.")
    return folder


def own(path: Path) -> Path:
    """Return where a path with a place lies for this process.

    The path itself where its scratch folder is here, else the same place in the scratch folder of this process: a path
    may have been made on another node, or by another user.
    """
    place = place_of(path)
    if place is None or root_of(path) == scratch() or os.access(root_of(path), os.W_OK):
        return path
    return place.within(scratch())


def receipt_of(path: Path) -> Path:
    """Return the file that remembers which state of the object lies at a path with a place."""
    place = place_of(path)
    assert place is not None
    return Place(place.scheme, place.bucket, f"{RECEIPTS}/{place.key}@").within(root_of(path))
