"""What the verbs of jobs print. Everything here takes finished values."""

from __future__ import annotations

import json as jsonlib
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from rayline.cli.job_screen import duration, saved, words

if TYPE_CHECKING:
    from rich.console import Console

    from rayline.jobs.environment import Forwarded
    from rayline.jobs.job import Job
    from rayline.jobs.looking import Seen
    from rayline.jobs.submission import Draft, Submission
    from rayline.progress import Progress


def submission(console: Console, draft: Draft, sent: Submission, variables: Forwarded, url: str) -> None:
    """Print what goes along, before it is sent."""
    from rayline.jobs.packing import megabytes

    package = draft.package
    console.print(f"[bold]{escape(sent.config.name)}[/] to {url}", soft_wrap=True)
    size = f"{package.files:,} files, {megabytes(package.size)}, packed {megabytes(len(package.content))}"
    console.print(f"  working directory  {escape(str(draft.folder))}: {size} in {draft.seconds:.2f} s", soft_wrap=True)
    checked = "the cluster's image" + ("" if sent.lock == "-" else f", checked against {sent.lock}")
    console.print(f"  environment        {escape(checked)}", soft_wrap=True)
    if variables.variables:
        console.print(f"  variables          {escape(_shown(variables.variables))}", soft_wrap=True)
    notes = [*sent.notes, *variables.notes]
    if package.secrets:
        names = ", ".join(package.secrets[:3]) + (", ..." if len(package.secrets) > 3 else "")
        notes.append(f"left here as they may hold secrets: {names} (take them in with !NAME in .rayignore)")
    for each in notes:
        console.print(f"  [yellow]note[/]               {escape(each)}", soft_wrap=True)


def _shown(variables: dict[str, str]) -> str:
    from rayline.jobs.environment import secret

    return ", ".join(f"{name}={'***' if secret(name) else value}" for name, value in variables.items())


def sent(console: Console, name: str, url: str, *, as_json: bool = False) -> int:
    """Print what a job that nobody follows is called, and how to look at it."""
    if as_json:
        print(jsonlib.dumps({"id": name, "address": url}))
    else:
        console.print(f"job [bold]{escape(name)}[/] is sent")
        console.print(f"  follow  rayline jobs follow {escape(name)} --address {url}", soft_wrap=True)
        console.print(f"  stop    rayline jobs stop {escape(name)} --address {url}", soft_wrap=True)
    return 0


def goes_on(console: Console, name: str, url: str) -> None:
    """Print, of an interrupted command, that the job goes on."""
    if not name:
        console.print("stopped before the job was sent")
        return
    console.print(f"\njob [bold]{escape(name)}[/] goes on without this command", soft_wrap=True)
    console.print(f"  follow  rayline jobs follow {escape(name)} --address {url}", soft_wrap=True)
    console.print(f"  stop    rayline jobs stop {escape(name)} --address {url}", soft_wrap=True)


def ended(console: Console, job: Job, last: Progress | None, *, as_json: bool = False) -> int:
    """Print what a followed job ended in; return the exit code."""
    if as_json:
        _json({**_plain(job), "exit_code": job.exit_code, "why": job.why, "progress": last and asdict(last)})
        return job.exit_code
    if last is not None and saved(last):
        console.print(escape(saved(last)), soft_wrap=True)
    colour = "green" if job.end == "done" else "red"
    took = f" in {duration(job.finished - job.began)}" if job.finished and job.began else ""
    console.print(f"job [bold]{escape(job.id)}[/]: [{colour}]{escape(job.why)}[/]{took}", soft_wrap=True)
    if job.code is None and job.message and job.end != "stopped":
        console.print(job.message, markup=False, soft_wrap=True)
    if job.end in ("died", "stopped"):
        console.print("the same command again resumes it")
    return job.exit_code


def listed(console: Console, found: list[Seen], *, as_json: bool = False) -> None:
    """Print all jobs, the latest first."""
    if as_json:
        _json([_seen(each) for each in found])
        return
    if not found:
        console.print("no job was submitted to this cluster")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("job", no_wrap=True, overflow="fold")
    for heading in ("project", "state", "stage", "progress", "took"):
        table.add_column(heading)
    for each in found:
        stage = each.progress.stage if each.progress else ""
        far = words(each.progress) if each.progress else ""
        state = each.job.why if each.job.ended else each.job.status.lower()
        table.add_row(each.job.id, escape(each.project), escape(state), stage, escape(far), _took(each.job))
    console.print(table)


def one(console: Console, found: Seen, *, as_json: bool = False) -> None:
    """Print one job, and the end of what it printed."""
    if as_json:
        _json({**_seen(found), "log": list(found.tail)})
        return
    job = found.job
    console.print(f"job [bold]{escape(job.id)}[/]  {escape(found.project)}", soft_wrap=True)
    console.print(f"  state     {escape(job.why if job.ended else job.status.lower())}  {_took(job)}", soft_wrap=True)
    if found.progress is not None:
        console.print(f"  stage     {found.progress.stage}  {escape(found.progress.text)}", soft_wrap=True)
        console.print(f"  progress  {escape(words(found.progress))}", soft_wrap=True)
    for line in found.tail:
        console.print(f"  | {line}", markup=False, soft_wrap=True)


def _seen(found: Seen) -> dict[str, Any]:
    why = {"why": found.job.why, "exit_code": found.job.exit_code} if found.job.ended else {}
    return {
        **_plain(found.job),
        **why,
        "project": found.project,
        "progress": asdict(found.progress) if found.progress is not None else None,
    }


def _plain(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": job.status,
        "driver_exit_code": job.code,
        "error": job.error,
        "began": job.began,
        "finished": job.finished,
        "entrypoint": job.entrypoint,
    }


def _took(job: Job) -> str:
    if job.began is None:
        return ""
    return duration((job.finished or time.time()) - job.began)


def _json(value: Any) -> None:
    print(jsonlib.dumps(value, indent=2, default=str))
