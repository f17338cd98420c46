"""All checks at once, each bounded in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from queue import Empty, Queue
from typing import Any

from rayline.doctor.seam import Check, Finding, Subject
from rayline.errors import RaylineError

SECONDS = 40.0
"""For how long the slowest check is waited for: MLflow and PyTorch take some to load on a busy machine."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What one check found, and in how many seconds."""

    check: str
    findings: tuple[Finding, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """All checks, in the order of their family."""

    checks: tuple[Examined, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not any(finding.state == "failed" for each in self.checks for finding in each.findings)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {"ok": self.ok, "checks": [asdict(each) for each in self.checks]}


def examine(subject: Subject, checks: Iterable[Check], seconds: float = SECONDS) -> Report:
    """Look at everything at once.

    Args:
        subject: what is examined.
        checks: the family, or a part of it.
        seconds: after which a check that has not answered has failed; it is not waited for any more.
    """
    family = list(checks)
    answers: Queue[tuple[int, Examined]] = Queue()
    for at, check in enumerate(family):
        # Daemons: one that hangs in a dead server must not keep the process from ending.
        threading.Thread(target=_ask, args=(at, check, subject, answers), name=check.name, daemon=True).start()
    found: dict[int, Examined] = {}
    deadline = time.monotonic() + seconds
    while len(found) < len(family):
        try:
            at, examined = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            break
        found[at] = examined
    return Report(tuple(found.get(at) or _silent(check, seconds) for at, check in enumerate(family)))


def _ask(at: int, check: Check, subject: Subject, answers: Queue[tuple[int, Examined]]) -> None:
    began = time.monotonic()
    findings: Sequence[Finding]
    try:
        findings = check.look(subject)
    except RaylineError as error:
        said, _, rest = str(error).partition(". ")
        findings = [Finding("failed", said.rstrip("."), rest or "See the message.")]
    except OSError as error:
        findings = [Finding("failed", str(error), "Check that it exists and may be used.")]
    except Exception as error:  # noqa: BLE001 - a check that breaks must not take the others with it
        findings = [Finding("failed", f"the check broke: {type(error).__name__}: {error}", "Please report this.")]
    answers.put((at, Examined(check.name, tuple(findings), round(time.monotonic() - began, 2))))


def _silent(check: Check, seconds: float) -> Examined:
    seen = f"no answer within {seconds:g} s"
    return Examined(
        check.name, (Finding("failed", seen, "What it asks hangs: see what it is, and ask again."),), seconds
    )
