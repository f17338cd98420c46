"""What a check of data looks like on a terminal and as JSON. Takes finished values; decides nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rayline.check import Checked
    from rayline.features.checks.findings import Anomaly
    from rayline.features.leakage.report import Leak

COLOURS = {"fail": "red", "quarantine": "magenta", "warn": "yellow"}
SCHEMA_OF = {
    "features": "no schema file is configured: the last features step gives the schema",
    "data": "no schema file is configured and nothing was trained yet: the own data gives the schema",
}


def checked(console: Console, done: Checked) -> None:
    """Print the anomaly table, the leakage report and the proposed change."""
    if done.schema in SCHEMA_OF:
        console.print(f"[dim]{SCHEMA_OF[done.schema]}[/]", soft_wrap=True)
    if done.anomalies:
        console.print(anomaly_table(done.anomalies))
    if not done.anomalies:
        console.print(f"[green]✓[/] the data fits its schema ({done.rows:,} rows)")
    for hint in done.hints:
        console.print(f"  [yellow]hint[/]  {escape(hint)}", soft_wrap=True)
    leakage(console, done.leakage)
    if done.proposal is not None:
        diff(console, done.proposal.diff)


def anomaly_table(anomalies: tuple[Anomaly, ...]) -> Table:
    """Return the table: column, rule, policy, rows, share, and what with examples; rows count from 0."""
    table = Table("column", "rule", "policy", "rows", "share", "what (rows count from 0)", box=None, pad_edge=False)
    for each in anomalies:
        policy = f"[{COLOURS[each.policy]}]{each.policy}[/]"
        rows, share = (f"{each.rows:,}", f"{each.share:.2%}") if each.rows else ("", "")
        examples = "".join(f"\n[dim]{escape(str(example))}[/]" for example in each.examples)
        table.add_row(escape(each.column), each.rule, policy, rows, share, escape(each.message) + examples)
    return table


def leakage(console: Console, leaks: tuple[Leak, ...]) -> None:
    """Print the leakage report; nothing where there is none."""
    if leaks:
        console.print("[bold]leakage[/]")
    for each in leaks:
        console.print(f"  [yellow]{each.kind}[/]  {escape(str(each))}", soft_wrap=True)


def diff(console: Console, text: str) -> None:
    """Print a unified diff in its colours."""
    if not text:
        console.print("the schema file needs no change")
    for line in text.splitlines():
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "dim")
        console.print(f"[{colour}]{escape(line)}[/]", soft_wrap=True)


def as_values(done: Checked, applied: bool) -> dict[str, Any]:
    """Return a check as JSON-ready values."""
    from rayline.features.checks.findings import counts

    return {
        "valid": done.valid,
        "schema": done.schema,
        "environment": done.environment,
        "rows": done.rows,
        "anomalies": [asdict(each) for each in done.anomalies],
        "counts": counts(done.anomalies),
        "hints": list(done.hints),
        "leakage": [asdict(each) for each in done.leakage],
        "diff": None if done.proposal is None else done.proposal.diff,
        "applied": applied,
    }
