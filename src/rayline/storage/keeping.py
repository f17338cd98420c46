"""Files and folders between a scratch folder and the object store that it mirrors.

In a plain or shared folder there is nothing to do: every function returns at once. All raise ``StorageError`` where the
store cannot be asked, after a bounded number of attempts.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from rayline.errors import StorageError
from rayline.storage.manifests import SUFFIX, Manifest, decoded, encoded, hidden, manifest_key
from rayline.storage.objects import Object, Objects, objects
from rayline.storage.places import Place, own, place_of, receipt_of

AT_ONCE = 8
ATTEMPTS = 5  # to read a folder that is being replaced meanwhile

Item = TypeVar("Item")
Result = TypeVar("Result")


def keep(path: Path, stored: Mapping[str, Path] | None = None) -> None:
    """Put a finished file or folder into the storage that it belongs to; what was there is replaced in one moment.

    Args:
        path: what to keep. Hidden files and drafts below a folder are left out; nothing at ``path`` is kept as nothing.
        stored: by the path in the folder, files that other processes have kept already, and where; they need not be
            here, and are not sent again.
    """
    place = place_of(path)
    if place is None:
        return
    if path.is_dir():
        _keep_folder(path, place, stored or {})
    elif path.exists():
        _remember(path, _bucket(place).put(place.key, path))


def fetch(path: Path) -> Path:
    """Bring a file or folder here that another process has kept, and return where it lies.

    What is here already is not asked for. Where there is none, nothing is brought, and the path that is returned does
    not exist.
    """
    place = place_of(path)
    if place is None:
        return path
    path = own(path)
    if not path.exists():
        _bring(path, place, None)
    return path


def refresh(path: Path) -> Path:
    """Bring the state that the storage has, where it is another than was last kept or brought here; else as ``fetch``.

    What was changed here since and is not kept yet stays, unless somebody else has kept something meanwhile.
    """
    place = place_of(path)
    if place is None:
        return path
    path = own(path)
    _bring(path, place, _remembered(path) if path.exists() else None)
    return path


def fetch_part(folder: Path, name: str) -> Path:
    """Bring one file of a kept folder here, without the others, and return where it lies; else as ``fetch``."""
    place = place_of(folder)
    if place is None:
        return folder / name
    path = own(folder) / name
    if path.exists():
        return path
    found = _bucket(place).get(manifest_key(place.key))
    key = _manifest(place, found).files.get(name) if isinstance(found, Object) else None
    if key is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(_bucket(place), key, path)
    return path


def exists(path: Path) -> bool:
    """Tell whether a file or folder is here, or in the storage; nothing is brought."""
    return own(path).exists() or is_kept(path)


def is_kept(path: Path) -> bool:
    """Tell whether the storage has a file or folder, whatever is here; in a plain folder, whether it is there."""
    place = place_of(path)
    if place is None:
        return path.exists()
    keys = (place.key, manifest_key(place.key))
    return any(_bucket(place).exists(key) for key in (keys if path.suffix else reversed(keys)))


def names(folder: Path) -> list[str]:
    """Return the names of all whole files and folders right under a folder, here or in the storage, in order."""
    found = {each.name for each in own(folder).iterdir()} if own(folder).is_dir() else set()
    place = place_of(folder)
    if place is not None:
        found |= {name.removesuffix(SUFFIX) for name in _bucket(place).directly_in(place.key)}
    return sorted(name for name in found if not hidden(name))


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder that is kept by itself, here or in the storage, in order; none is brought."""
    local = own(folder)
    found = {each.relative_to(local).as_posix() for each in local.rglob("*") if each.is_file()}
    place = place_of(folder)
    if place is not None:
        start = len(place.key) + 1 if place.key else 0
        found |= {each.key[start:] for each in _bucket(place).below(place.key)}
    return [local / name for name in sorted(found) if not hidden(name)]


def forget(path: Path) -> None:
    """Delete a file, or a folder with all below it, from the storage; what lies here stays, unless it is plain."""
    place = place_of(path)
    if place is None:
        return
    bucket = _bucket(place)
    bucket.delete([manifest_key(place.key)])
    bucket.delete([place.key, *(each.key for each in bucket.below(place.key))])
    with suppress(FileNotFoundError):
        receipt_of(own(path)).unlink()


def _keep_folder(path: Path, place: Place, stored: Mapping[str, Path]) -> None:
    bucket, mark = _bucket(place), f".{uuid.uuid4().hex[:8]}"
    files = {each.relative_to(path).as_posix(): each for each in sorted(path.rglob("*")) if each.is_file()}
    files = {name: file for name, file in files.items() if not hidden(name)}
    known = {name: where.key for name, each in stored.items() if (where := place_of(each)) is not None}
    keys = {name: known.get(name, f"{place.key}/{mark}/{name}") for name in {**files, **known}}
    before = bucket.get(manifest_key(place.key))
    _each(lambda name: bucket.put(keys[name], files[name]), [name for name in files if name not in known])
    _remember(path, bucket.put(manifest_key(place.key), encoded(Manifest(keys))))
    if isinstance(before, Object):
        bucket.delete(sorted(set(_manifest(place, before).files.values()) - set(keys.values())))


def _bring(path: Path, place: Place, known: str | None) -> None:
    """Bring a file or a folder, whichever there is, where its state is not ``known``."""
    as_file_first = path.is_file() or (path.suffix and not path.is_dir())
    for bring in (_bring_file, _bring_folder) if as_file_first else (_bring_folder, _bring_file):
        if bring(path, place, known):
            return


def _bring_file(path: Path, place: Place, known: str | None) -> bool:
    found = _bucket(place).get(place.key, known)
    if isinstance(found, Object):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft(path)
        draft.write_bytes(found.data)
        os.replace(draft, path)
        _remember(path, found.etag)
    elif found is None and known is not None and path.is_file():  # it was kept, and somebody has deleted it since
        path.unlink()
        _remember(path, None)
    return found is not None


def _bring_folder(path: Path, place: Place, known: str | None) -> bool:
    bucket = _bucket(place)
    for _ in range(ATTEMPTS):
        found = bucket.get(manifest_key(place.key), known)
        if not isinstance(found, Object):
            return found is not None
        draft = _draft(path)
        try:
            if _downloaded(bucket, _manifest(place, found), draft):
                _replace(draft, path)
                _remember(path, found.etag)
                return True
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    raise StorageError(f"'{place.uri}' changed each time that it was read. Is it written by two at once? Try again.")


def _downloaded(bucket: Objects, manifest: Manifest, folder: Path) -> bool:
    """Write the files of a folder; False where one is gone, because the folder was replaced meanwhile."""
    folder.mkdir(parents=True)
    for parent in {(folder / name).parent for name in manifest.files}:
        parent.mkdir(parents=True, exist_ok=True)
    tags = _each(lambda name: bucket.download(manifest.files[name], folder / name), list(manifest.files))
    return None not in tags


def _download(bucket: Objects, key: str, path: Path) -> str | None:
    draft = _draft(path)
    try:
        tag = bucket.download(key, draft)
        if tag is not None:
            os.replace(draft, path)
        return tag
    finally:
        draft.unlink(missing_ok=True)


def _replace(draft: Path, path: Path) -> None:
    """Put a whole folder in its place; where another process was first, its one stays."""
    old = _draft(path)
    with suppress(FileNotFoundError):
        os.rename(path, old)
    with suppress(OSError):
        os.rename(draft, path)
    shutil.rmtree(old, ignore_errors=True)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")


def _each(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do something with each, several at once."""
    items = list(items)
    if len(items) < 2:
        return [work(each) for each in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(items)), thread_name_prefix="rayline-storage") as pool:
        return list(pool.map(work, items))


def _manifest(place: Place, found: Object) -> Manifest:
    try:
        return decoded(found.data)
    except ValueError as error:
        raise StorageError(f"'{place.uri}{SUFFIX}' cannot be read: {error}. Delete it and make it anew.") from error


def _bucket(place: Place) -> Objects:
    return objects(place.scheme, place.bucket)


def _remembered(path: Path) -> str | None:
    try:
        return receipt_of(path).read_text(encoding="utf-8")
    except OSError:
        return None


def _remember(path: Path, tag: str | None) -> None:
    """Write down which state of the object lies here."""
    file = receipt_of(path)
    if tag is None:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(file)
    draft.write_text(tag, encoding="utf-8")
    os.replace(draft, file)
