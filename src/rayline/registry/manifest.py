"""The manifest of a bundle: which files it holds, and the SHA-256 of each. Nothing is read before it is checked.

A manifest proves that files are whole, not that they are honest: whoever can write a bundle can write its manifest. So
names, kinds and sizes are held against lists of our own first, and each format has its own checks where it is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from rayline.config import Task
from rayline.errors import BundleError, NotFoundError, shown

FORMAT = "rayline-bundle/1"
MANIFEST = "manifest.json"
FEATURES = "features.json"
ARRAYS = "features.arrow"
REFERENCE = "reference.json"
EXAMPLE = "input_example.json"
LINEAGE = "lineage.json"
HISTORY = "history.json"  # only where the model looks columns up
MLP_WEIGHTS = "model.safetensors"
PROGRAM = "model.pt2"
ESTIMATOR = "model.skops"
BOOSTER = "model.json"

_STATE = frozenset({FEATURES, REFERENCE, EXAMPLE, LINEAGE})
_OPTIONAL = frozenset({ARRAYS, HISTORY})
_NETWORKS = frozenset({MLP_WEIGHTS, PROGRAM, ESTIMATOR, BOOSTER})
_ALLOWED = _STATE | _OPTIONAL | _NETWORKS
MOST_BYTES = {MANIFEST: 2**20, ARRAYS: 2**31, **dict.fromkeys(_STATE | {HISTORY}, 2**28)}
MOST_NETWORK_BYTES = 2**36
"""How large a file may be, in bytes: far beyond what an honest one takes, and what a machine can still bear."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_MAKE_ANEW = "Fetch the version again from the registry, or make a new one with `rayline run --fresh`."


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One file: its SHA-256 in hexadecimal and its size in bytes."""

    sha256: str
    bytes: int


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle says about itself.

    Attributes:
        format: ``rayline-bundle/1``.
        name: the model's name in the registry.
        task: what its network answers.
        features: fingerprint of the fitted FeatureSet in ``features.json``.
        model: the configuration of the network, as values.
        files: every other file of the bundle.
    """

    format: str
    name: str
    task: Task
    features: str
    model: dict[str, Any]
    files: dict[str, Entry]

    @property
    def network(self) -> str:
        """The name of the file that holds the network."""
        return next(name for name in self.files if name in _NETWORKS)


def written(folder: Path, *, name: str, task: Task, features: str, model: dict[str, Any]) -> Manifest:
    """Write the manifest of the files in ``folder`` and return it. Raises ``BundleError`` for a name out of pattern."""
    if not _NAME.fullmatch(name):
        raise BundleError(
            f"bundle name {name!r} must be up to 63 lower-case letters, digits, '-' and '_', and start with a letter."
        )
    files = {path.name: _entry(path.read_bytes()) for path in sorted(folder.iterdir())}
    manifest = Manifest(FORMAT, name, task, features, model, files)
    _check_names(folder, manifest)
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2))
    return manifest


def verified(folder: Path) -> tuple[Manifest, str]:
    """Check a bundle against its manifest: format, the set of files, and every byte of them.

    Returns:
        The manifest, and the SHA-256 of the manifest itself, which names the whole content.

    Raises:
        NotFoundError: there is no such folder.
        BundleError: anything in it is not as the manifest says; the message names the file.
    """
    if not folder.is_dir():
        raise NotFoundError(f"bundle '{folder}' does not exist.")
    raw = _regular(folder, MANIFEST)
    manifest = _decoded(folder, raw)
    _check_names(folder, manifest)
    _check_folder(folder, manifest)
    for name in manifest.files:
        checked(folder, manifest, name)
    return manifest, hashlib.sha256(raw).hexdigest()


def checked(folder: Path, manifest: Manifest, name: str) -> bytes:
    """Return the bytes of one file, once they are known to be the manifest's. Raises ``BundleError``."""
    expected = manifest.files[name]
    content = _regular(folder, name, expected.bytes)
    found = _entry(content)
    if found != expected:
        raise BundleError(
            f"bundle '{folder}': {name} was changed: SHA-256 {found.sha256[:12]}… ({found.bytes} bytes), but the"
            f" manifest says {expected.sha256[:12]}… ({expected.bytes} bytes). {_MAKE_ANEW}"
        )
    return content


def _entry(content: bytes) -> Entry:
    return Entry(hashlib.sha256(content).hexdigest(), len(content))


def _decoded(folder: Path, raw: bytes) -> Manifest:
    try:
        values = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"bundle '{folder}': {MANIFEST} is not JSON: {error}. {_MAKE_ANEW}") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} has the format {shown(found)}, and this Rayline reads '{FORMAT}'."
            " Use the Rayline that wrote it, or make a new version."
        )
    try:
        return msgspec.convert(values, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"bundle '{folder}': {MANIFEST} is damaged: {error}. {_MAKE_ANEW}") from error


def _check_names(folder: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        if name not in _ALLOWED:
            raise BundleError(
                f"bundle '{folder}': {MANIFEST} lists {shown(name)}, which no bundle may hold."
                f" Allowed: {', '.join(sorted(_ALLOWED))}."
            )
    absent = _STATE - manifest.files.keys()
    if absent:
        raise BundleError(f"bundle '{folder}': {MANIFEST} does not list {min(absent)}. {_MAKE_ANEW}")
    networks = _NETWORKS & manifest.files.keys()
    if len(networks) != 1:
        found = " and ".join(sorted(networks)) or "none"
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} must list one of {', '.join(sorted(_NETWORKS))}, and it lists {found}."
        )


def _check_folder(folder: Path, manifest: Manifest) -> None:
    for name in sorted(os.listdir(folder)):
        if name not in manifest.files and name != MANIFEST:
            raise BundleError(
                f"bundle '{folder}': {name} is not in the manifest. Remove it, or fetch the version again."
            )


def _regular(folder: Path, name: str, size: int | None = None) -> bytes:
    """Return the bytes of a plain file, of exactly ``size`` bytes where that is known."""
    try:
        file = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise BundleError(f"bundle '{folder}': {name} is missing. {_MAKE_ANEW}") from error
    except OSError as error:
        raise BundleError(f"bundle '{folder}': {name} is a link or no plain file. {_MAKE_ANEW}") from error
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise BundleError(f"bundle '{folder}': {name} is a link or no plain file. {_MAKE_ANEW}")
        most = MOST_BYTES.get(name, MOST_NETWORK_BYTES)
        if found.st_size > most:
            raise BundleError(f"bundle '{folder}': {name} has {found.st_size:,} bytes, and may have {most:,}.")
        if size is not None and found.st_size != size:
            raise BundleError(
                f"bundle '{folder}': {name} was changed: it has {found.st_size} bytes, but the manifest says"
                f" {size}. {_MAKE_ANEW}"
            )
        with os.fdopen(file, "rb", closefd=False) as opened:
            return opened.read(found.st_size)
    finally:
        os.close(file)
