"""What a project's lock file asks for, and what of it is not installed. Pure, but for reading the file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from rayline.errors import NotFoundError, UsageError

LOCK_FILES = ("uv.lock", "requirements.txt", "constraints.txt")
"""Looked for in this order, beside the configuration and in the working directory."""
MARK = "@rayline-lacks "
LACKS = 86
"""The exit code of a driver whose image does not hold what the lock file asks for."""


@dataclass(frozen=True, slots=True)
class Lock:
    """The requirements of a lock file.

    Attributes:
        name: the file's.
        whole: each requirement must be installed; else each counts only for what is installed, as pip's constraints do.
    """

    name: str
    requirements: tuple[Requirement, ...]
    whole: bool


def find_lock(*folders: Path) -> Path | None:
    """Return the first lock file in the first of the folders that has one."""
    return next((folder / name for folder in folders for name in LOCK_FILES if (folder / name).is_file()), None)


def read_lock(file: Path) -> Lock:
    """Read ``uv.lock``, a file of constraints (by its name) or of requirements, those that it includes too.

    Raises:
        NotFoundError: it does not exist.
        UsageError: a line cannot be read.
    """
    if not file.is_file():
        raise NotFoundError(f"lock file '{file}' does not exist.")
    if file.suffix == ".lock":
        return Lock(file.name, _uv(file), whole=False)
    return Lock(file.name, tuple(_lines(file, set())), whole="constraint" not in file.name)


def _uv(file: Path) -> tuple[Requirement, ...]:
    try:
        packages = tomllib.loads(file.read_text(encoding="utf-8")).get("package", [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"lock file '{file}' is no TOML: {error}") from error
    versions: dict[str, list[str]] = {}
    for each in packages:
        if "registry" in each.get("source", {}):  # not the project itself
            versions.setdefault(each["name"], []).append(each["version"])
    # Of a package that has another version on another platform, the image decides.
    return tuple(Requirement(f"{name}=={found[0]}") for name, found in versions.items() if len(found) == 1)


def _lines(file: Path, seen: set[Path]) -> list[Requirement]:
    seen.add(file)
    found: list[Requirement] = []
    joined = file.read_text(encoding="utf-8").replace("\\\n", " ")
    for number, raw in enumerate(joined.splitlines(), start=1):
        line = raw.split(" #")[0].split(" --hash")[0].strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith(("-r ", "--requirement ")):
            other = file.parent / line.split(None, 1)[1]
            if other not in seen:
                found += _lines(other, seen)
        elif not line.startswith("-"):  # where pip is to look is for the cluster to say
            found.append(_requirement(line, file, number))
    return found


def _requirement(line: str, file: Path, number: int) -> Requirement:
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise UsageError(f"lock file '{file}', line {number}: '{line}' is no requirement such as name==1.2.") from error


def lacking(lock: Lock, version_of: Callable[[str], str | None]) -> list[str]:
    """Return the requirements that do not hold, as pip takes them, in order.

    Args:
        lock: what is asked for.
        version_of: gives the version of an installed package by its canonical name, or None.
    """
    return [
        str(each)
        for each in lock.requirements
        if (each.marker is None or each.marker.evaluate()) and not _holds(each, version_of, lock.whole)
    ]


def _holds(requirement: Requirement, version_of: Callable[[str], str | None], whole: bool) -> bool:
    installed = version_of(canonicalize_name(requirement.name))
    if installed is None:
        return not whole
    return requirement.url is not None or requirement.specifier.contains(installed, prereleases=True)


def told(lacks: list[str]) -> str:
    """Return a line of the driver's log that says what its image lacks."""
    return MARK + json.dumps(lacks)


def heard(log: str) -> list[str]:
    """Return what a driver's log says that its image lacks."""
    for line in reversed(log.splitlines()):
        if line.startswith(MARK):
            return [str(each) for each in json.loads(line[len(MARK) :])]
    return []
