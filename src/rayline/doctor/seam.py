"""What a check is: a name, a look at one thing, and findings in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rayline.config import Config

State = Literal["ok", "notice", "failed", "skipped"]
"""``notice``: it works, and something will not be as one may think. ``skipped``: there is nothing to look at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look saw.

    Attributes:
        seen: what is there, in words.
        way_out: what to do; never empty where it failed.
    """

    state: State
    seen: str
    way_out: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined.

    Attributes:
        config: the project's configuration; None where there is none, or it is wrong.
        config_file: the file that was named.
        config_error: what is wrong with it.
        address: the cluster that was named, ``host:port``, or that is this project's own and runs; None for none.
        token_file: the file of the cluster's token, where the cluster is this project's own.
        manifests: files and folders that describe a cluster.
    """

    config: Config | None = None
    config_file: Path | None = None
    config_error: str = ""
    address: str | None = None
    token_file: Path | None = None
    manifests: tuple[Path, ...] = ()


class Check(Protocol):
    """One look at one thing. It may raise ``RaylineError`` or ``OSError``, which is a failure in those words.

    It changes nothing, starts no cluster, and gives up by itself after some seconds; who asks waits no longer anyway.
    """

    @property
    def name(self) -> str:
        """Return what the table calls it; each is different."""

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen, at least one finding."""
