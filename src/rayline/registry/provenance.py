"""Where a Run came from: the code's commit, and the versions of what it ran on."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("rayline", "ray", "torch", "mlflow", "optuna", "numpy", "pyarrow", "scikit-learn", "skops", "xgboost")
_OTHER_NAMES = {"xgboost": "xgboost-cpu"}  # the same module, without its GPU code
_GIT_SECONDS = 10.0


def environment() -> dict[str, str]:
    """Return the versions of Python, the platform and the packages that decide a result; imports none of them."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        installed = package_version(name)
        if installed is not None:
            found[name] = installed
    return found


def package_version(name: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    for each in (name, _OTHER_NAMES.get(name, name)):
        try:
            return version(each)
        except PackageNotFoundError:
            continue
    return None


def code_commit(folder: Path) -> str | None:
    """Return the git commit of the folder, with ``-dirty`` where tracked files differ from it.

    None where the folder is in no git repository, has no commit yet, or git is not installed.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changes else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
