"""The page of `rayline doctor`: one line for each finding."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rayline.doctor import Report

MARKS = {
    "ok": "[green]ok[/]",
    "notice": "[yellow]notice[/]",
    "failed": "[bold red]failed[/]",
    "skipped": "[dim]-[/]",
}


def page(console: Console, report: Report) -> None:
    """Print what every check saw, and what to do about what is not as it should be."""
    table = Table("check", "", "seen", box=None, pad_edge=False)
    table.columns[2].overflow = "fold"
    for each in report.checks:
        for at, finding in enumerate(each.findings):
            seen = escape(finding.seen)
            if finding.way_out and finding.state in ("failed", "notice"):
                seen += f"\n[cyan]{escape(finding.way_out)}[/]"
            table.add_row(
                "" if at else each.check,
                MARKS[finding.state],
                f"[dim]{seen}[/]" if finding.state == "skipped" else seen,
            )
    console.print(table)
    states = [finding.state for each in report.checks for finding in each.findings]
    failed, notices = states.count("failed"), states.count("notice")
    said = f"[bold red]{failed} failed[/]" if failed else "[bold green]nothing failed[/]"
    told = f", {notices} notice{'s' * (notices != 1)}" if notices else ""
    console.print(f"{said}{told}, {states.count('ok')} ok")
