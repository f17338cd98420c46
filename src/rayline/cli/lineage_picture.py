"""A version's lineage as a tree: one branch for each question that one asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

if TYPE_CHECKING:
    from rayline.lineage import Data, Features, Lineage, Passage, Run

COLOURS = {"unchanged": "green", "changed since": "yellow", "gone": "red"}


def picture(found: Lineage) -> Tree:
    """Return the tree of a version."""
    aliases = "".join(f"  [magenta]@{escape(alias)}[/]" for alias in found.aliases)
    tree = Tree(f"[bold]{escape(found.name)} version {found.version}[/]{aliases}  [dim]{_time(found.created)}[/]")
    tree.add(f"[cyan]bundle[/]  {found.digest}")
    _data(tree, found.data)
    _features(tree, found.features)
    _run(tree, found.run)
    _gates(tree, found.tags)
    _code(tree, found)
    _traffic(tree, found)
    return tree


def _data(tree: Tree, data: Data) -> None:
    colour = COLOURS.get(data.now, "dim")
    branch = tree.add(f"[cyan]data[/]  {escape(data.source)}  [{colour}]{escape(data.now)}[/]")
    branch.add(f"content  {data.digest or '[dim]not kept[/]'}")
    table = _plain("part", "rows", "digest")
    for part, rows in data.rows.items():
        table.add_row(part, f"{rows:,}", data.parts.get(part, ""))
    branch.add(table)
    branch.add(f"schema  {data.schema or '[dim]not kept[/]'}")


def _features(tree: Tree, features: Features) -> None:
    branch = tree.add(
        f"[cyan]features[/]  {features.fingerprint}  {len(features.columns)} columns give {features.width} numbers; "
        f"target {escape(features.target)}, {features.task}"
    )
    table = _plain("column", "kind", "numbers")
    for each in features.columns:
        of = "" if each.inputs == (each.name,) else f" of {', '.join(each.inputs)}"
        table.add_row(escape(each.name + of), each.kind, str(each.outputs))
    branch.add(table)
    if features.since is not None:
        since = branch.add(f"since version {features.since}{'' if features.changes else ': the same'}")
        for sentence in features.changes:
            since.add(escape(sentence))


def _run(tree: Tree, run: Run | None) -> None:
    if run is None:
        tree.add("[cyan]run[/]  [red]gone from MLflow[/]")
        return
    trial = f"  trial {run.trial} of study {run.study}" if run.trial is not None else ""
    branch = tree.add(f"[cyan]run[/]  {run.run_id}  {run.status}{trial}")
    for section, settings in _sections(run.params).items():
        branch.add(f"{escape(section)}  [dim]{escape(', '.join(settings))}[/]")
    scores = ", ".join(f"{name} {value:.4g}" for name, value in run.metrics.items())
    tree.add(f"[cyan]evaluation[/]  {scores or '[dim]none[/]'}")
    if run.skew is not None:
        tree.add(f"[cyan]skew[/]  {escape(run.skew)}")


def _gates(tree: Tree, tags: Mapping[str, str]) -> None:
    state = tags.get("rayline.blessed")
    if state is None:
        tree.add("[cyan]gates[/]  [dim]registered before versions were judged[/]")
        return
    words = {"yes": "[green]blessed[/]", "no": "[red]not blessed[/]", "forced": "[yellow]not blessed, and forced[/]"}
    against = tags.get("rayline.blessed.against")
    beside = f"  beside champion v{against}" if against else ""
    branch = tree.add(f"[cyan]gates[/]  {words.get(state, escape(state))}{beside}")
    for reason in tags.get("rayline.blessed.reasons", "").splitlines():
        branch.add(f"[dim]{escape(reason)}[/]")
    if state == "forced":
        by, at, why = (tags.get(f"rayline.blessed.forced_{part}", "") for part in ("by", "at", "reason"))
        branch.add(f"let past by {escape(by)} at {escape(at)}: {escape(why)}")


def _code(tree: Tree, found: Lineage) -> None:
    branch = tree.add(f"[cyan]code[/]  {found.code or '[dim]in no git repository[/]'}")
    branch.add("[dim]" + escape(", ".join(f"{name} {value}" for name, value in found.environment.items())) + "[/]")


def _traffic(tree: Tree, found: Lineage) -> None:
    reason = found.tags.get("rayline.rollout.reason", "")
    branch = tree.add(f"[cyan]traffic[/]  {escape(_first_sight(found, reason))}")
    for passage in found.traffic:
        branch.add(_passage(passage))


def _first_sight(found: Lineage, reason: str) -> str:
    phase = found.tags.get("rayline.rollout")
    if phase is None:
        return "" if found.traffic else "none yet"
    return f"{phase}: {reason}" if reason else phase


def _passage(passage: Passage) -> str:
    against = f"took over from v{passage.other}" if passage.role == "canary" else f"gave way to v{passage.other}"
    if passage.phase != "Healthy":
        against = f"against v{passage.other}, at most {passage.highest} %"
    return (
        f"[dim]{_time(passage.began)}[/]  {passage.kind} as {passage.role}: {passage.phase}, {against}  "
        f"[dim]{escape(passage.message)}[/]"
    )


def _sections(params: Mapping[str, str]) -> dict[str, list[str]]:
    """Return parameters by the section of the configuration that they belong to."""
    sections: dict[str, list[str]] = {}
    for name, value in params.items():
        section, _, key = name.rpartition(".")
        sections.setdefault(section, []).append(f"{key} {value}")
    return sections


def _plain(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="dim")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
