"""What is known of a cluster's jobs: state, and from their logs how far they are."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from rayline import progress
from rayline.errors import ClusterError
from rayline.jobs.job import PROJECT_KEY, Job
from rayline.jobs.lock import MARK
from rayline.jobs.server import JobServer

TAIL = 12


@dataclass(frozen=True, slots=True)
class Seen:
    """A job, the last progress that it told (None where it told none), and the end of what it printed."""

    job: Job
    progress: progress.Progress | None
    tail: tuple[str, ...] = ()

    @property
    def project(self) -> str:
        """The project's name, as far as the job tells it."""
        return self.job.metadata.get(PROJECT_KEY) or (self.progress.project if self.progress else "")


def all_jobs(server: JobServer) -> list[Seen]:
    """Return every submitted job, the latest first."""
    return [_seen(server, each) for each in server.jobs()]


def one_job(server: JobServer, name: str) -> Seen:
    """Return one job. Raises ``NotFoundError``."""
    return _seen(server, server.job(name))


def _seen(server: JobServer, job: Job) -> Seen:
    log = ""
    with suppress(ClusterError):  # the node that kept its log may be gone
        log = server.logs(job.id)
    lines = [line for line in log.splitlines() if not line.startswith((progress.MARK, MARK))]
    return Seen(job, progress.latest(log), tuple(lines[-TAIL:]))
