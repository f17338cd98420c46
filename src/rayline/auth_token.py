"""The token of a cluster, found where Ray looks for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rayline.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class Token:
    """A token, or none.

    Attributes:
        value: the secret; empty where there is none.
        source: where it was found, in words.
        warning: what is wrong with how it is kept; empty where nothing is.
    """

    value: str
    source: str
    warning: str = ""

    def __repr__(self) -> str:
        """Say where it is from, and never what it is."""
        return f"Token(source={self.source!r})"


NONE = Token("", "none was found in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token")


def find_token(environment: Mapping[str, str] | None = None, home: Path | None = None) -> Token:
    """Return the token by Ray's own order: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, ``~/.ray/auth_token``.

    Raises:
        NotFoundError: RAY_AUTH_TOKEN_PATH names a file that cannot be read, or an empty one.
    """
    environment = os.environ if environment is None else environment
    if value := environment.get("RAY_AUTH_TOKEN", "").strip():
        return Token(value, "RAY_AUTH_TOKEN")
    named = environment.get("RAY_AUTH_TOKEN_PATH", "")
    path = Path(named).expanduser() if named else (home or Path.home()) / ".ray" / "auth_token"
    try:
        value = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        if not named:
            return NONE
        raise NotFoundError(
            f"token file '{path}' (RAY_AUTH_TOKEN_PATH): {error.strerror}. Name the file that the cluster was started "
            "with, or unset the variable."
        ) from error
    if not value:
        if not named:
            return NONE
        raise NotFoundError(f"token file '{path}' (RAY_AUTH_TOKEN_PATH) is empty: it must hold the cluster's token.")
    return Token(value, f"'{path}'", open_to_others(path))


def open_to_others(path: Path) -> str:
    """Return what to say of a token file that other users of this machine may read; nothing where none may."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & 0o077:
        return ""
    return f"token file '{path}' may be read by others (mode {mode:04o}): chmod 600 {path}"
