"""The page of `rayline plan`: steps, what each needs, and what there is."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rayline.capacity import Capacity, Node
from rayline.preflight import MANY, Need
from rayline.preview import PlannedStep, Preview

MARKS = {
    "fits": "[green]fits[/]",
    "waits": "[yellow]waits[/]",
    "grows": "[yellow]grows[/]",
    "unsure": "[yellow]unsure[/]",
    "never": "[bold red]never[/]",
}
COUNTED = ("CPU", "GPU")
MEASURED = ("memory", "object_store_memory")
GIB = 2**30


def page(console: Console, found: Preview) -> None:
    """Print what a run would do."""
    console.print(f"[bold]{escape(found.name)}[/] on {escape(found.capacity.where)}", soft_wrap=True)
    console.print(_steps(found.steps))
    console.print()
    console.print(_resources(found.capacity))
    _closing(console, found)


def _steps(steps: tuple[PlannedStep, ...]) -> Table:
    table = Table("step", "state", "needs", "room", "", box=None, pad_edge=False)
    for step in steps:
        state = "[dim]cached[/]" if step.cached else "[cyan]to do[/]"
        rows = [(_needs(each.need), MARKS[each.outcome], escape(each.words)) for each in step.needs]
        if step.why or not rows:
            first = rows[0][:2] if rows else ("", "")
            table.add_row(step.step, state, *first, f"[dim]{escape(step.why)}[/]" if step.cached else escape(step.why))
            for at, (needs, mark, words) in enumerate(rows):
                table.add_row("", "", needs if at else "", mark if at else "", words)
        else:
            for at, row in enumerate(rows):
                table.add_row("" if at else step.step, "" if at else state, *row)
    return table


def _needs(need: Need) -> str:
    count = str(need.least)
    if need.most != need.least:
        count += " or more" if need.most == MANY else f" to {need.most}"
    each = ", ".join(f"{amount:g} {name}" for name, amount in need.each.items())
    labels = "".join(f" on {key}: {value}" for key, value in need.labels.items())
    return escape(f"{each}{labels}" if need.most == 1 else f"{count} of {each}{labels}")


def _resources(capacity: Capacity) -> Table:
    table = Table("nodes", "CPUs", "GPUs", "memory", "object store", box=None, pad_edge=False)
    for name, nodes in _groups(capacity).items():
        counted = [_free(nodes, resource) for resource in COUNTED]
        table.add_row(f"{len(nodes)} {escape(name)}" if not capacity.local else name, *counted, *_sizes(nodes))
    for kind in capacity.kinds:
        more = min(kind.more, capacity.more)
        added = [f"+ {kind.total.get(resource, 0.0) * more:g}" for resource in COUNTED]
        table.add_row(f"[dim]up to {more} more {escape(kind.name)}[/]", *added)
    if capacity.kinds:
        table.add_row(
            f"[bold]at most {capacity.more} more[/]",
            *(f"[bold]{capacity.can_reach(each):g} in all[/]" for each in COUNTED),
        )
    return table


def _groups(capacity: Capacity) -> dict[str, list[Node]]:
    """Return the living nodes by kind, the head first: a cluster of a thousand nodes has a few lines."""
    groups: dict[str, list[Node]] = {}
    for node in capacity.nodes:
        kind = "" if node.kind.startswith("node_") else node.kind
        name = node.name if capacity.local else "head" if node.head else kind or "worker"
        groups.setdefault(name, []).append(node)
    return groups


def _free(nodes: list[Node], resource: str) -> str:
    free, total = (sum(side.get(resource, 0.0) for side in sides) for sides in _sides(nodes))
    return f"{free:g} of {total:g} free" if total else "0"


def _sides(nodes: list[Node]) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    return [dict(node.free) for node in nodes], [dict(node.total) for node in nodes]


def _sizes(nodes: list[Node]) -> list[str]:
    totals = [sum(node.total.get(name, 0.0) for node in nodes) for name in MEASURED]
    return [f"{total / GIB:.1f} GiB" if total else "" for total in totals]


def _closing(console: Console, found: Preview) -> None:
    if found.capacity.reach == "unknown":
        why = escape(found.capacity.why)
        console.print(f"[yellow]notice[/]  whether more nodes can come is not known: {why}", soft_wrap=True)
    for step in found.steps:
        for each in step.needs:
            if each.refused:
                said = f"{step.step}: {each.words}. {each.way_out}"
                console.print(f"[bold red]refused[/]  {escape(said)}", soft_wrap=True)
