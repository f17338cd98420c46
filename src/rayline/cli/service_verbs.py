"""Verbs of a live service and of what it runs on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rayline.cli import show
from rayline.cli.options import (
    Force,
    Json,
    ProjectFile,
    Service,
    named_project,
    project_file,
    project_storage,
    selected,
)


def deploy(
    service: Annotated[str, Parameter(help="NAME, NAME@VERSION or NAME@ALIAS; default: the champion.")],
    /,
    *,
    force: Force = None,
    config: ProjectFile = None,
) -> int:
    """Give a version all traffic at once: the first of a service, or without the steps of a rollout."""
    from rayline import release
    from rayline.config import RolloutConfig
    from rayline.project import Project

    chosen = selected(service)
    loaded = named_project(chosen.name, config)
    with show.flow(loaded.name) as listener:
        project = Project(loaded, listener=listener)
        version = project.store.version(chosen.name, chosen.selector)
        at_once = RolloutConfig(strategy="all_at_once")
        ended = release.release(project, version.number, plan=at_once, insist=True, force=force)
    return show.released(ended)


def predict(
    name: Service,
    file: Annotated[Path, Parameter(help="The rows: CSV, Parquet or JSON lines.")],
    /,
    *,
    version: Annotated[str | None, Parameter(help="A version's number or @alias; default: the champion.")] = None,
    out: Annotated[Path | None, Parameter(help="A Parquet file for the answers; default: beside the rows.")] = None,
    config: ProjectFile = None,
    json: Json = False,
) -> int:
    """Predict a file offline, on Ray Data, by the same Bundle that serves."""
    from rayline.offline import predict_file
    from rayline.project import Project

    project = Project(named_project(name, config))
    target = out or file.with_suffix(".predictions.parquet")
    show.predicted(predict_file(project, version, file, target), as_json=json)
    return 0


def status(
    name: Annotated[str | None, Parameter(help="The service's name; default: the project's.")] = None,
    /,
    *,
    config: ProjectFile = None,
    json: Json = False,
) -> int:
    """Tell what runs, its traffic, the last rollout, the versions and the finished steps. No cluster is needed."""
    from rayline.config import load
    from rayline.standing import standing

    project = load(project_file(config)) if name is None else named_project(name, config)
    show.standing(standing(project), as_json=json)
    return 0


def lineage(
    version: Annotated[str, Parameter(help="NAME, NAME@VERSION or NAME@ALIAS; default: the champion.")],
    /,
    *,
    config: ProjectFile = None,
    json: Json = False,
) -> int:
    """Tell what a version was made of: data, features, run, code, evaluation, traffic. No cluster is needed."""
    from rayline.lineage import lineage as lineage_of

    chosen = selected(version)
    show.lineage(lineage_of(named_project(chosen.name, config), chosen.selector), as_json=json)
    return 0


def card(
    version: Annotated[str, Parameter(help="NAME, NAME@VERSION or NAME@ALIAS; default: the champion.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="A folder for the HTML, the Markdown and its plots.")] = None,
    config: ProjectFile = None,
) -> int:
    """Show the model card of a version: data, scores by slice, gates, limits. No cluster is needed."""
    from rayline.card.writing import fetch_card
    from rayline.project import Project

    chosen = selected(version)
    project = Project(named_project(chosen.name, config))
    found = project.store.version(chosen.name, chosen.selector)
    show.card(fetch_card(project.store, found, out or project.storage / "cards" / f"{found.name}-{found.number}"))
    return 0


def ui(*, config: ProjectFile = None, port: Annotated[int, Parameter(help="The page's port.")] = 5000) -> int:
    """Open MLflow's pages over the project's storage, on loopback, until interrupted."""
    from rayline.cli.tracking_pages import serve_pages

    return serve_pages(config, port)


def stop(
    *,
    storage: Annotated[Path | None, Parameter(help="The project's state folder; default: its file's.")] = None,
    config: ProjectFile = None,
) -> int:
    """Stop the local cluster of this project and the services on it; nothing stored is lost."""
    from rayline import cluster

    storage = storage or project_storage(config)
    show.line("stopped the local cluster" if cluster.stop(storage) else f"no local cluster of '{storage}' is running")
    return 0


def demo(
    *,
    keep: Annotated[bool, Parameter(help="Leave the service up.", negative=())] = False,
    port: Annotated[int, Parameter(help="The service's port.")] = 8000,
    out: Annotated[Path, Parameter(help="The folder for the demo's project.")] = Path("rayline-demo"),
) -> int:
    """Run the main job on real data: train, deploy, tune, roll out, and take a bad version back."""
    from rayline.cli.demo_screen import demo_screen
    from rayline.demo.story import run_demo

    with demo_screen() as screen:
        return screen.closing(run_demo(out, port=port, keep=keep, listener=screen))


VERBS: tuple[Callable[..., int], ...] = (predict, status, lineage, card, ui, stop, demo)
