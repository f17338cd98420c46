"""Where a project stands, as text: what runs, what it serves, how its last rollout ended, what was finished when."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rayline.cli.rollout_picture import COLOURS
from rayline.cli.rollout_words import seconds_words

if TYPE_CHECKING:
    from rayline.standing import ServiceStanding, Standing

LAST_VERSIONS = 8


def page(console: Console, found: Standing) -> None:
    """Print where a project stands."""
    console.print(f"[bold]{escape(found.name)}[/]  [dim]{escape(found.storage)}[/]", soft_wrap=True)
    console.print(f"  cluster   {f'local, at {found.cluster}' if found.cluster else 'no local one runs'}")
    said = service_line(found.service) if found.service else "never deployed"
    console.print(f"  service   {said}", soft_wrap=True)
    if found.service is not None:
        shares = ", ".join(f"v{number} {weight} %" for number, weight in sorted(found.service.weights.items()))
        console.print(f"  traffic   {shares}; stable v{found.service.stable}, plan {found.service.generation}")
    if found.rollout is not None:
        state = found.rollout
        went = f"[{COLOURS[state.phase]}]{state.phase}[/] v{state.stable} → v{state.canary}"
        console.print(f"  rollout   {went}: {escape(state.message)}", soft_wrap=True)
    if found.tracking:
        console.print(f"  versions  MLflow cannot be asked: {escape(found.tracking)}", soft_wrap=True)
    for table in (_versions(found), _steps(found)):
        if table.row_count:
            console.print()
            console.print(table)


def service_line(service: ServiceStanding) -> str:
    """Return whether a service runs, and when it was last seen where it does not."""
    if service.running:
        return f"running at {service.url}"
    if service.last_seen is None:
        return "not running"
    replicas = f"{service.replicas} replica{'' if service.replicas == 1 else 's'}"
    return f"not running; last seen {moment(service.last_seen)} with {replicas}"


def moment(at: float) -> str:
    """Return a Unix time as a local date and time."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def as_values(found: Standing) -> dict[str, Any]:
    """Return the same as JSON-ready values; times are Unix time in seconds."""
    values: dict[str, Any] = msgspec.to_builtins(found, str_keys=True)
    return values


def _versions(found: Standing) -> Table:
    table = Table("version", "aliases", "registered", "last rollout", box=None, pad_edge=False, header_style="dim")
    for each in found.versions[:LAST_VERSIONS]:
        table.add_row(str(each.number), ", ".join(each.aliases), moment(each.created), each.rollout)
    return table


def _steps(found: Standing) -> Table:
    table = Table("step", "finished", "took", box=None, pad_edge=False, header_style="dim")
    for each in found.steps:
        table.add_row(each.step, moment(each.at), seconds_words(each.seconds))
    return table
