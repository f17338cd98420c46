"""Which of this shell's variables go along with a job. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from rayline.errors import UsageError
from rayline.jobs.address import LOOPBACK

FORWARDED = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_S3_ENDPOINT_URL",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "GOOGLE_CLOUD_PROJECT",
    "RAYLINE_ONLINE_STORE",
)
"""Variables that say where things are, and hold no secret."""
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What goes along, and what to say of it.

    Attributes:
        variables: names and values.
        notes: what was left behind and why, and what was asked for and is seen by others.
    """

    variables: dict[str, str]
    notes: tuple[str, ...]


def forwarded(asked: Sequence[str], here: Mapping[str, str], *, same_machine: bool) -> Forwarded:
    """Return the variables of a job: the known harmless ones that are set here, and those asked for.

    Args:
        asked: ``NAME`` for the value that it has here, or ``NAME=VALUE``.
        here: this shell's variables.
        same_machine: the cluster runs on this machine, so addresses on loopback hold there too.

    Raises:
        UsageError: a variable that is asked for is not set here.
    """
    variables: dict[str, str] = {}
    notes: list[str] = []
    for name in FORWARDED:
        if value := here.get(name, ""):
            why = _left_behind(value, same_machine)
            if why:
                notes.append(f"{name} stays here: {why}; to send it all the same: --env-var {name}")
            else:
                variables[name] = value
    for each in asked:
        name, equals, value = each.partition("=")
        if not name or (not equals and name not in here):
            raise UsageError(f"--env-var '{each}': there is no such variable here. Give NAME=VALUE, or set it first.")
        variables[name] = value if equals else here[name]
        notes = [note for note in notes if not note.startswith(f"{name} ")]
        if secret(name):
            notes.append(
                f"{name} goes along as asked: whoever holds the cluster's token can read it in the job's record"
            )
    return Forwarded(variables, tuple(notes))


def secret(name: str) -> bool:
    """Tell whether a variable's name speaks of a secret."""
    return _SECRET.search(name) is not None


def _left_behind(value: str, same_machine: bool) -> str:
    parts = urlsplit(value)
    if parts.password or parts.username:
        return "its address holds a password or user"
    local = parts.hostname in LOOPBACK or parts.scheme in ("file", "sqlite") or value.startswith(("/", "./", "~"))
    if local and not same_machine:
        return "it names something on this machine"
    return ""
