"""The working directory of a job: which files go along, how large they are, and one archive of them.

The ignore files are Ray's own choice, ``.gitignore`` and ``.rayignore`` in any folder, read with the library that Ray
uses. In one folder ``.rayignore`` has the last word, so that it can take back in what git must not see.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pathspec

from rayline.errors import NotFoundError, UsageError

NEVER = (".git", ".hg", ".svn", ".rayline", ".venv*", "venv", "__pycache__", "*.pyc", ".*_cache", ".hypothesis")
"""Names of files and folders that no cluster needs."""
SECRETS = (".env", ".env.*", ".netrc", "*.pem", "id_rsa*", "id_ed25519*", "auth_token", "*.token")
"""Names of files that hold secrets more often than not: they travel only where ``.rayignore`` takes them back in."""
IGNORE_FILES = (".gitignore", ".rayignore")
LIMIT_MB = 100.0
RAYS_LIMIT_MB = 500.0
"""What Ray's control store takes of one package (its largest message)."""
NAMED = 5
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that goes along: its path in the archive, its bytes, and where it lies."""

    name: str
    size: int
    path: Path


@dataclass(frozen=True, slots=True)
class Package:
    """What a job finds in its working directory.

    Attributes:
        name: of the archive, by its content: the same files again need no second upload.
        content: the archive, a zip file.
        files: what is in it.
        size: of the files, in bytes, before they are compressed.
        secrets: files that look like secrets and were left out.
    """

    name: str
    content: bytes
    files: int
    size: int
    secrets: tuple[str, ...]

    @property
    def uri(self) -> str:
        """What Ray calls it."""
        return f"gcs://{self.name}"


def refuse_whole_home(folder: Path) -> None:
    """Raise ``UsageError`` for a working directory that is a home or the root: nobody means all of it."""
    resolved = folder.resolve()
    if not resolved.is_dir():
        raise NotFoundError(f"working directory '{folder}' does not exist.")
    if resolved in (Path.home().resolve(), Path(resolved.anchor)):
        raise UsageError(
            f"working directory '{resolved}' is a whole home or disk. Go to the project's folder, or name it with "
            "--working-dir."
        )


def chosen(
    folder: Path, *, keep: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> tuple[list[PackedFile], list[str]]:
    """Return the files of a folder that go along, in order of their names, and those left out as likely secrets.

    Args:
        folder: the working directory.
        keep: paths under it that go along whatever an ignore file says: the configuration, its data.
        without: paths under it that never do: the state folder.
    """
    found: list[PackedFile] = []
    secrets: list[str] = []
    for path, relative, ignored in _walk(folder, folder, (), without, set()):
        if relative in keep:
            ignored = None
        elif ignored is None and _named(path.name, SECRETS):
            secrets.append(relative)
            continue
        if not ignored:
            found.append(PackedFile(relative, path.stat().st_size, path))
    return sorted(found, key=lambda each: each.name), sorted(secrets)


Specs = tuple[tuple[Path, pathspec.GitIgnoreSpec], ...]


def _walk(
    folder: Path, root: Path, specs: Specs, without: tuple[str, ...], seen: set[str]
) -> Iterator[tuple[Path, str, bool | None]]:
    """Give each file below, its path under the root, and what the ignore files say: None where they say nothing."""
    real = os.path.realpath(folder)
    if real in seen:  # a link that leads back
        return
    seen.add(real)
    specs = (*specs, *_specs(folder))
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        path = Path(entry.path)
        relative = path.relative_to(root).as_posix()
        if _named(entry.name, NEVER) or relative in without:
            continue
        if entry.is_dir():
            yield from _walk(path, root, specs, without, seen)
        elif entry.is_file():
            yield path, relative, _verdict(path, specs)


def _specs(folder: Path) -> Specs:
    lines: list[str] = []
    for name in IGNORE_FILES:
        file = folder / name
        if file.is_file():
            lines += file.read_text(encoding="utf-8", errors="replace").splitlines()
    return ((folder, pathspec.GitIgnoreSpec.from_lines(lines)),) if lines else ()


def _verdict(path: Path, specs: Specs) -> bool | None:
    """Return True for ignored, False for taken back in; the deepest ignore file that speaks of it has the last word."""
    for folder, spec in reversed(specs):
        said = spec.check_file(path.relative_to(folder).as_posix()).include
        if said is not None:
            return bool(said)
    return None


def _named(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def refuse_too_large(files: list[PackedFile], folder: Path, limit_mb: float) -> None:
    """Raise ``UsageError`` for files above the limit, naming the largest of them."""
    total = sum(each.size for each in files)
    if total <= limit_mb * 1e6:
        return
    largest = sorted(files, key=lambda each: each.size, reverse=True)[:NAMED]
    listed = "\n".join(f"  {megabytes(each.size):>10}  {each.name}" for each in largest)
    raise UsageError(
        f"working directory '{folder}' has {megabytes(total)} in {len(files):,} files; the limit is {limit_mb:g} MB. "
        f"The largest:\n{listed}\nName what the job does not need in .rayignore (as in .gitignore), put data into the "
        f"storage that the cluster reads, or raise --limit-mb (Ray takes {RAYS_LIMIT_MB:g} MB, compressed)."
    )


def packed(files: list[PackedFile], secrets: list[str], added: dict[str, str]) -> Package:
    """Return one archive of the files and of ``added`` (name to text): the same bytes for the same content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for each in files:
            archive.writestr(_entry(each.name, each.path.stat().st_mode), each.path.read_bytes())
        for name, text in sorted(added.items()):
            archive.writestr(_entry(name, 0o644), text)
    content = buffer.getvalue()
    size = sum(each.size for each in files) + sum(len(text.encode()) for text in added.values())
    name = f"_ray_pkg_{hashlib.sha1(content, usedforsecurity=False).hexdigest()}.zip"
    return Package(name, content, len(files) + len(added), size, tuple(secrets))


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (mode & 0o777 | 0o600) << 16
    return entry


def megabytes(size: float) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
