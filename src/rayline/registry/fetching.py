"""Puts a version's bundle on local disk: once, in full, and only if it is what was registered."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from rayline.errors import BundleError
from rayline.registry.bundle import Bundle
from rayline.registry.store import Version


def fetched(version: Version, into: Path, download: Callable[[Path], Path]) -> Path:
    """Return ``into/NAME-NUMBER`` with the version's bundle.

    Args:
        version: what to fetch.
        into: the folder of fetched bundles.
        download: puts the files into an empty folder and returns the bundle's directory in it.

    Raises:
        BundleError: what was downloaded, or what stands there from before, is not the version that was registered.
    """
    target = into / f"{version.name}-{version.number}"
    if not target.exists():
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=into) as temporary:
            bundle = download(Path(temporary))
            if bundle.is_symlink():
                raise BundleError(
                    f"version {version.number} of '{version.name}' was downloaded as a link to elsewhere."
                )
            _check(Bundle.load(bundle), version)
            with contextlib.suppress(FileExistsError, OSError):  # another process was first; its copy is checked below
                os.rename(bundle, target)
    _check(Bundle.load(target), version)
    return target


def _check(bundle: Bundle, version: Version) -> None:
    if bundle.digest != version.digest:
        raise BundleError(
            f"bundle '{bundle.path}' has the digest {bundle.digest[:12]}…, and version {version.number} of"
            f" '{version.name}' was registered as {version.digest[:12]}…. Remove the directory to fetch it again."
        )
