"""The verbs of a rollout, in the words of Argo Rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from rayline.cli import show
from rayline.cli.options import Force, Json, ProjectFile, Service, named_project

RETURN_DEADLINE_S = 60.0
PLACE = 9  # after deploy in the list of verbs
rollout = cyclopts.App(
    name="rollout", help="Move traffic from the stable version to a canary, step by step.", sort_key=PLACE
)


@rollout.command(sort_key=0)
def start(
    name: Service,
    /,
    *,
    version: Annotated[str, Parameter(help="The canary: a version's number or @alias.")] = "@challenger",
    plan: Annotated[Path | None, Parameter(help="A YAML file of steps; default: the project's section.")] = None,
    wait: Annotated[bool, Parameter(help="Follow the rollout until it ends or waits.", negative=())] = False,
    force: Force = None,
    config: ProjectFile = None,
) -> int:
    """Start a rollout; refused while another one is under way."""
    from rayline import release
    from rayline.project import Project
    from rayline.rollout.plans.plan import load_plan

    project = Project(named_project(name, config), listener=show.notices)
    steps = load_plan(plan) if plan is not None else None
    project.connect()
    number = project.store.version(name, version).number
    state = release.start(project, number, plan=steps, force=force)
    return _watched(project.config.name, project.storage) if wait else show.rollout(state)


@rollout.command(sort_key=1)
def status(
    name: Service,
    /,
    *,
    watch: Annotated[bool, Parameter(help="Draw it anew until it ends or waits.", negative=())] = False,
    wait: Annotated[bool, Parameter(help="Return once it ends or waits for a person.", negative=())] = False,
    config: ProjectFile = None,
    json: Json = False,
) -> int:
    """Tell steps, shares and the last verdicts; exit code 1 where it was taken back or an analysis gave no verdict."""
    from rayline.rollout import commands
    from rayline.standing import service_standing

    project = named_project(name, config)
    if watch and not json:
        return _watched(name, project.storage)
    state = commands.status(name, storage=project.storage)
    if wait or watch:
        *_, state = commands.watch(name, storage=project.storage)
    return show.rollout(state, as_json=json, service=service_standing(project))


@rollout.command(sort_key=2)
def promote(
    name: Service,
    /,
    *,
    full: Annotated[bool, Parameter(help="Skip every step that is left.", negative=())] = False,
    force: Force = None,
    config: ProjectFile = None,
) -> int:
    """Go on from a pause; with --full straight to 100 %."""
    from rayline import release
    from rayline.project import Project

    project = Project(named_project(name, config), listener=show.notices)
    project.connect()
    show.rollout(release.promote(project, full=full, force=force))
    return 0


@rollout.command(sort_key=3)
def pause(name: Service, /, *, config: ProjectFile = None) -> int:
    """Hold the rollout where it is."""
    return _ask("pause", name, config)


@rollout.command(sort_key=4)
def resume(name: Service, /, *, config: ProjectFile = None) -> int:
    """Go on with a rollout that was paused by hand."""
    return _ask("resume", name, config)


@rollout.command(sort_key=5)
def abort(
    name: Service,
    /,
    *,
    reason: Annotated[str, Parameter(help="Why; kept with the version.")] = "aborted by hand",
    config: ProjectFile = None,
) -> int:
    """Return all traffic to the stable version at once."""
    return _ask("abort", name, config, reason=reason)


@rollout.command(sort_key=6)
def retry(name: Service, /, *, config: ProjectFile = None) -> int:
    """Try the version that was taken back once more, from the first step."""
    return _ask("retry", name, config)


@rollout.command(sort_key=7)
def undo(
    name: Service,
    /,
    *,
    to: Annotated[int | None, Parameter(help="An earlier stable version; default: the one before this.")] = None,
    config: ProjectFile = None,
) -> int:
    """Return all traffic to the version that was stable before the last rollout, or to an earlier one."""
    return _ask("undo", name, config, to=to)


@rollout.command(sort_key=8)
def history(name: Service, /, *, config: ProjectFile = None, json: Json = False) -> int:
    """List all rollouts of a service, the latest first: versions, phase, reason and how long each took."""
    from rayline.rollout import commands
    from rayline.standing import service_standing

    project = named_project(name, config)
    found = commands.history(name, storage=project.storage)
    show.rollouts(found, as_json=json, service=None if json else service_standing(project))
    return 0


def _ask(verb: str, name: str, config: Path | None, **details: object) -> int:
    from rayline.project import Project
    from rayline.rollout import commands

    project = Project(named_project(name, config))
    project.connect()
    state = getattr(commands, verb)(name, storage=str(project.storage), **details)
    if verb in ("abort", "undo"):  # done once every replica has the stable version's weights
        state = commands.wait(name, storage=str(project.storage), timeout=RETURN_DEADLINE_S)
    show.rollout(state)
    return 1 if verb == "undo" and state.phase != "Healthy" else 0


def _watched(name: str, storage: str | Path) -> int:
    from rayline.rollout import commands

    return show.watched_rollout(commands.watch(name, storage=storage), lambda: commands.arms(name, storage=storage))
