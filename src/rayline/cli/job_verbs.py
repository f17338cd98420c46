"""Verbs of jobs: send a run to a cluster, look at what was sent, follow it, stop it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter
from rich.console import Console

from rayline.cli import job_pages, show
from rayline.cli.job_screen import JobScreen
from rayline.cli.options import HERE, ConfigFile, Fresh, Json, Overrides
from rayline.cli.show import console
from rayline.errors import UsageError

if TYPE_CHECKING:
    from rayline.jobs.server import JobServer
    from rayline.jobs.submission import Submission

INTERRUPTED = 130

Address = Annotated[
    str | None,
    Parameter(help="The cluster's job server, http://HOST:8265; default: RAY_API_SERVER_ADDRESS, else this machine's."),
]
JobId = Annotated[str, Parameter(help="The job's id, as `submit` and `jobs` tell it.")]
Many = Parameter(negative=(), consume_multiple=False)


def submit(
    config: ConfigFile = HERE,
    /,
    *,
    address: Address = None,
    working_dir: Annotated[
        Path | None, Parameter(help="The folder that goes along; default: this one, or the configuration's.")
    ] = None,
    storage: Annotated[str | None, Parameter(help="Where state goes, instead of the configuration's storage.")] = None,
    env: Annotated[
        str,
        Parameter(
            help="auto: install what the image lacks of the lock file found; image: install nothing; or a lock file."
        ),
    ] = "auto",
    env_var: Annotated[tuple[str, ...], Many, Parameter(help="NAME or NAME=VALUE: a variable that goes along.")] = (),
    limit_mb: Annotated[float, Parameter(help="How large the working directory may be.")] = 100.0,
    num_cpus: Annotated[float, Parameter(help="CPUs that the driver itself takes.")] = 0.0,
    num_gpus: Annotated[float, Parameter(help="GPUs that the driver itself takes.")] = 0.0,
    memory: Annotated[str, Parameter(help="Memory that the driver itself takes, such as 2GB.")] = "0",
    label: Annotated[tuple[str, ...], Many, Parameter(help="KEY=VALUE: what the driver's node must carry.")] = (),
    retries: Annotated[
        int, Parameter(help="Send it again so often when its driver dies or its environment fails.")
    ] = 0,
    no_wait: Annotated[bool, Parameter(help="Return when the job is sent.", negative=())] = False,
    fresh: Fresh = False,
    set_: Overrides = (),
    json: Json = False,
) -> int:
    """Send `run` to a cluster as a Ray job and follow it; the exit code is the run's own. Sent again, it resumes."""
    from rayline.jobs import running
    from rayline.jobs.environment import forwarded
    from rayline.jobs.submission import Wishes, prepare

    running.refuse_no_wait(retries, not no_wait)
    wishes = Wishes(
        config,
        set_,
        working_dir,
        storage,
        env,
        limit_mb,
        num_cpus,
        num_gpus,
        _bytes(memory),
        tuple(_pair(each, "--label") for each in label),
        fresh,
        not no_wait,
    )
    draft = prepare(wishes)  # what is wrong with it is told before any cluster is asked
    server = _server(address, quiet=json)
    server.check()
    here = server.on_this_machine(socket.gethostname())
    submission = draft.addressed(same_machine=here)
    variables = forwarded(env_var, os.environ, same_machine=here)
    if not json:
        job_pages.submission(console, draft, submission, variables, server.url)
    if no_wait:
        name = running.send(server, submission, variables.variables)
        return job_pages.sent(console, name, server.url, as_json=json)
    return _see_through(server, submission, variables.variables, retries, json)


def _see_through(server: JobServer, submission: Submission, variables: dict[str, str], retries: int, json: bool) -> int:
    from rayline.jobs import running

    screen = JobScreen(Console(stderr=True, highlight=False) if json else console)
    try:
        job = running.see_through(server, submission, variables, screen, retries=retries)
    except KeyboardInterrupt:
        screen.resting()
        job_pages.goes_on(screen.console, screen.name, server.url)
        return INTERRUPTED
    return job_pages.ended(console, job, screen.last, as_json=json)


def _status(
    job: Annotated[str | None, Parameter(help="The job's id; default: all jobs.")] = None,
    /,
    *,
    address: Address = None,
    json: Json = False,
) -> int:
    """Tell of each job its state, stage, progress and remaining time; `jobs ID` of one, with the end of its log."""
    from rayline.jobs import looking

    server = _server(address, quiet=json)
    if job is None:
        job_pages.listed(console, looking.all_jobs(server), as_json=json)
    else:
        job_pages.one(console, looking.one_job(server, job), as_json=json)
    return 0


def follow(job: JobId, /, *, address: Address = None) -> int:
    """Follow a job's log to its end; the exit code is the run's own."""
    from rayline.jobs import running

    server = _server(address)
    server.job(job)
    screen = JobScreen(console)
    screen.name = job
    try:
        ended = running.follow(server, job, screen)
    except KeyboardInterrupt:
        screen.resting()
        job_pages.goes_on(console, job, server.url)
        return INTERRUPTED
    screen.resting()
    return job_pages.ended(console, ended, screen.last)


def stop(job: JobId, /, *, address: Address = None) -> int:
    """Stop a job; what it finished is kept, and sent again it resumes. Services that it started go on."""
    server = _server(address)
    found = server.job(job)
    if found.ended:
        show.line(f"job '{job}' had ended: {found.why}")
        return 0
    server.stop(job)
    ended = server.ended(job, within=30.0)
    show.line(f"job '{job}' is {'stopped' if ended.ended else 'asked to stop'}; sent again, it resumes")
    return 0


def _server(address: str | None, *, quiet: bool = False) -> JobServer:
    from rayline.auth_token import find_token
    from rayline.jobs.address import job_server
    from rayline.jobs.server import JobServer

    token = find_token()
    if token.warning:
        Console(stderr=True, highlight=False).print(token.warning, style="yellow", markup=False, soft_wrap=True)
    return JobServer(job_server(address), token)


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"{option} '{text}' must read KEY=VALUE.")
    return key, value


def _bytes(text: str) -> int:
    """Read ``2GB``, ``500MB`` or a number of bytes."""
    number = text.upper().removesuffix("B")
    factor = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}.get(number[-1:], 1)
    try:
        return int(float(number.rstrip("KMGT")) * factor)
    except ValueError:
        raise UsageError(f"--memory '{text}' must read a number of bytes, such as 500MB or 2GB.") from None


PLACE = 12.7  # after submit in the list of verbs
jobs = cyclopts.App(name="jobs", help="Look at the jobs of a cluster, follow one, stop one.", sort_key=PLACE)
jobs.default(_status)
jobs.command(follow)
jobs.command(stop)
