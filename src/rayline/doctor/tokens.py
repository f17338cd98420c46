"""Who may reach the cluster and the service: tokens, and who may read their files."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from rayline.doctor.seam import Finding, Subject
from rayline.serving.http.access import Tokens

USUAL_TOKEN = Path.home() / ".ray" / "auth_token"
"""Where Ray looks for a token that no variable names."""

OTHERS = 0o077
MAKE = "(umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32))' > {path})"


class TokenCheck:
    """Looks at the mode of authentication and at the files of tokens; the cluster's check asks whether it is taken."""

    name = "tokens"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        found = [_of_cluster(subject)]
        access = subject.config.service.access if subject.config is not None else None
        if access is not None and (access.token_file or access.admin_token_file):
            Tokens.read(access)  # raises what is wrong
            found.append(Finding("ok", "the service's own tokens are readable by this user alone"))
        return found


def _of_cluster(subject: Subject) -> Finding:
    if subject.token_file is not None:
        return _file(subject.token_file, "the local cluster's")
    mode = os.environ.get("RAY_AUTH_MODE")
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    usual = USUAL_TOKEN
    if mode == "disabled":
        way_out = "Set RAY_AUTH_MODE=token for the cluster and for its drivers."
        return Finding("notice", "RAY_AUTH_MODE is disabled: who reaches the cluster may run anything on it", way_out)
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Finding("ok", "the token stands in RAY_AUTH_TOKEN")
    if named or (subject.address is not None and usual.exists()):
        return _file(Path(named) if named else usual, "the cluster's")
    if mode == "token":
        way_out = f"Make one: {MAKE.format(path=usual)}, and give the same to the cluster."
        return Finding("failed", f"RAY_AUTH_MODE is token, and there is no token at '{usual}'", way_out)
    if subject.address is None:
        return Finding("ok", "a local cluster makes a token of its own")
    way_out = "Start the cluster with RAY_AUTH_MODE=token, and put its token into a file of mode 0600."
    return Finding("notice", "there is no token: who reaches the cluster may run anything on it", way_out)


def _file(path: Path, whose: str) -> Finding:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        empty = not path.read_bytes().strip()
    except OSError as error:
        return Finding("failed", f"{whose} token '{path}': {error.strerror}", f"Make it: {MAKE.format(path=path)}.")
    if mode & OTHERS:
        return Finding("failed", f"{whose} token '{path}' has mode {mode:04o}: others may read it", f"chmod 600 {path}")
    if empty:
        return Finding("failed", f"{whose} token '{path}' is empty", f"Make it: {MAKE.format(path=path)}.")
    return Finding("ok", f"mode token; {whose} token has mode {mode:04o}")
