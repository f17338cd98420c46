"""Are there values left in the cluster's files that only their user knows?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rayline.doctor.seam import Finding, Subject
from rayline.errors import NotFoundError

MARK = "CHANGE-ME"
MOST_BYTES = 1_000_000
COMMENTS = ("#", "//", ";")


@dataclass(frozen=True, slots=True)
class Unset:
    """One value that is still to be set: where it stands, what stands there and what it is for."""

    file: Path
    line: int
    setting: str
    purpose: str


class ManifestCheck:
    """Lists each value that still holds ``CHANGE-ME``, with its place and what the file says of it."""

    name = "cluster files"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen: each value that is left, by itself."""
        if not subject.manifests:
            return [Finding("skipped", "none were named (--manifests)")]
        files = list(files_of(subject.manifests))
        left = [each for file in files for each in unset_values(file)]
        if not left:
            return [Finding("ok", f"no value is left to set in {len(files)} files")]
        return [
            Finding("failed", f"{each.file}:{each.line} {each.setting}", each.purpose or "Set it to your own.")
            for each in left
        ]


def files_of(places: Sequence[Path]) -> Iterator[Path]:
    """Return the files at places that are files or folders. Raises ``NotFoundError`` where there is nothing."""
    for place in places:
        if place.is_file():
            yield place
        elif place.is_dir():
            yield from sorted(each for each in place.rglob("*") if each.is_file())
        else:
            raise NotFoundError(f"'{place}' does not exist. Name a file or a folder with --manifests.")


def unset_values(file: Path) -> list[Unset]:
    """Return the values of a file that hold the mark; a comment that speaks of it is none."""
    if file.stat().st_size > MOST_BYTES:
        return []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:  # a picture
        return []
    found = []
    for at, line in enumerate(lines):
        value, comment = _parts(line)
        if MARK in value:
            found.append(Unset(file, at + 1, value.strip(), comment or _above(lines, at)))
    return found


def _parts(line: str) -> tuple[str, str]:
    """Return a line's value and the comment after it."""
    bare = line.strip()
    if bare.startswith(COMMENTS):
        return "", bare.lstrip("#/; ")
    value, _, comment = line.partition(" #")
    return value, comment.strip()


def _above(lines: Sequence[str], at: int) -> str:
    """Return the comment that stands just above a line."""
    said: list[str] = []
    for line in reversed(lines[:at]):
        value, comment = _parts(line)
        if value.strip() or not comment:
            break
        said.insert(0, comment)
    return " ".join(said)
