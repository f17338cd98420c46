"""A submitted job seen to its end: followed through lost connections, given what its image lacks, sent again.

Sending the same thing again is all that resuming takes: the driver finds its finished steps in the project's storage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

from rayline.errors import NotFoundError, UsageError
from rayline.jobs.job import Job, may_help
from rayline.jobs.lock import LACKS
from rayline.jobs.lock import heard as lacks_of
from rayline.jobs.server import JobServer, Unreachable
from rayline.jobs.submission import Submission

SETTLE_S = 10.0
"""In which a job whose log has ended is marked so."""
BACK_S = 120.0
"""In which a head that was lost may come back."""
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
VANISHED = "its cluster lost it: the head was started anew"

Next = Literal["end", "install", "again"]
T = TypeVar("T")


class Screen(Protocol):
    """Who is told what happens."""

    def sent(self, name: str, attempt: int) -> None:
        """A job was accepted."""

    def printed(self, text: str) -> None:
        """A job has printed a piece of text."""

    def note(self, text: str) -> None:
        """Something happened around it."""

    def resting(self) -> None:
        """No line is at work any more."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often a job was sent, and may be.

    Attributes:
        retries: that the user allows after deaths and broken environments.
        used: of them.
        installed: requirements that the cluster was asked to install; None before it said what it lacks.
    """

    retries: int = 0
    used: int = 0
    installed: tuple[str, ...] | None = None


def next_move(job: Job, attempts: Attempts) -> Next:
    """Decide what follows a job that has ended."""
    if job.code == LACKS and attempts.installed is None:
        return "install"
    return "again" if may_help(job.end) and attempts.used < attempts.retries else "end"


def pause(used: int) -> float:
    """Return the seconds to wait before a retry, after so many of them."""
    return min(FIRST_PAUSE_S * 2.0**used, LONGEST_PAUSE_S)


def see_through(
    server: JobServer,
    submission: Submission,
    variables: Mapping[str, str],
    screen: Screen,
    *,
    retries: int = 0,
    sleep: Callable[[float], None] = time.sleep,
) -> Job:
    """Send a job, follow it, and send it again where that may help; return it as it ended the last time.

    Raises:
        ClusterError: the job server is gone, and no retry is left.
    """
    attempts = Attempts(retries)
    while True:
        name = send(server, submission, variables, attempts.installed or ())
        screen.sent(name, attempts.used + 1)
        job = follow(server, name, screen)
        screen.resting()
        match next_move(job, attempts):
            case "end":
                return job
            case "install":
                lacks = lacks_of(server.logs(name))
                attempts = replace(attempts, installed=tuple(lacks))
                screen.note(
                    f"the cluster's image lacks {len(lacks)} of {submission.lock}: they are installed for this job"
                )
            case "again":
                seconds = pause(attempts.used)
                attempts = replace(attempts, used=attempts.used + 1)
                screen.note(f"{job.why}: sent again in {seconds:g} s ({attempts.used} of {retries} retries)")
                sleep(seconds)


def send(server: JobServer, submission: Submission, variables: Mapping[str, str], install: tuple[str, ...] = ()) -> str:
    """Upload the package where the cluster lacks it, and submit; return the job's id."""
    package = submission.package
    _patiently(lambda: None if server.holds(package.name) else server.put(package.name, package.content))
    return server.submit(submission.request(variables, install))


def follow(server: JobServer, name: str, screen: Screen) -> Job:
    """Hand on all that a job prints until it has ended; return it. A lost connection is taken up again.

    A job that its cluster no longer knows counts as one that died.

    Raises:
        Unreachable: the server does not come back.
    """
    heard = 0
    while True:
        skip = heard

        def hear(text: str) -> None:
            nonlocal heard, skip
            fresh = text[skip:]
            skip = max(skip - len(text), 0)
            heard += len(fresh)
            if fresh:
                screen.printed(fresh)

        server.follow(name, hear)
        try:
            job = _patiently(lambda: server.ended(name, SETTLE_S))
        except NotFoundError:
            return Job(name, "FAILED", None, "", VANISHED, None, None, "", {})
        if job.ended:
            return job


def _patiently(ask: Callable[[], T]) -> T:
    """Ask a server that may be coming back."""
    deadline = time.monotonic() + BACK_S
    while True:
        try:
            return ask()
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def refuse_no_wait(retries: int, wait: bool) -> None:
    """Raise ``UsageError`` for retries without anybody who would see the job end."""
    if retries and not wait:
        raise UsageError("--retries needs this command to follow the job: leave out --no-wait.")
