"""Are Python and the packages those that Rayline was built for?"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata

from rayline.doctor.seam import Finding, Subject

SHOWN = ("ray", "mlflow", "torch")
OLDEST_PYTHON = (3, 11)


class VersionCheck:
    """Compares what is installed with what Rayline's own package asks for; nothing of it is loaded."""

    name = "versions"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        python = ".".join(map(str, sys.version_info[:3]))
        shown = ", ".join([f"Python {python}", *(f"{name} {_installed(name) or 'missing'}" for name in SHOWN)])
        wrong = list(_wrong())
        if sys.version_info[:2] < OLDEST_PYTHON:
            wrong.append(f"Python {python} is older than {'.'.join(map(str, OLDEST_PYTHON))}")
        if wrong:
            way_out = "Install Rayline anew in an environment of its own, with constraints.txt."
            return [Finding("failed", f"{'; '.join(wrong)} ({shown})", way_out)]
        return [Finding("ok", shown)]


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _wrong() -> Iterator[str]:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        asked = metadata.requires("rayline") or []
    except metadata.PackageNotFoundError:
        return
    for text in asked:
        try:
            wanted = Requirement(re.sub(r"#.*", "", text))
        except InvalidRequirement:
            continue
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        found = _installed(wanted.name)
        if found is None:
            yield f"{wanted.name} is not installed"
        elif not wanted.specifier.contains(found, prereleases=True):
            yield f"{wanted.name} is {found}, and Rayline needs {wanted.specifier}"
