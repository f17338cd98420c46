"""What the command line prints of an evaluation: scores, slices, threshold, calibration and what the Bundle takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

MOST_SLICES = 30
"""So many named slices are printed; ``--json`` has all."""
Values = Mapping[str, Any]


def evaluation(console: Console, values: Values) -> None:
    """Print an evaluation.

    Args:
        console: where to.
        values: as ``rayline.evaluation.record`` describes them.
    """
    console.print(_scores(values))
    if values["slices"]:
        console.print(_slices(values))
    for text in (_calibration(values), _threshold(values), _infrastructure(values)):
        if text:
            console.print(f"  {text}", soft_wrap=True)


def _scores(values: Values) -> Table:
    from rayline.evaluation.record import bounds

    table = Table(f"{values['rows']:,} test rows", "score", f"{values['confidence']:.0%} interval", box=None)
    for name, each in values["scores"].items():
        value, _, interval = bounds(name, each).partition(" ")
        table.add_row(name, value, f"[dim]{escape(interval)}[/]")
    return table


def _slices(values: Values) -> Table:
    from rayline.evaluation.record import bounds, main_score

    name = main_score(values)
    table = Table("slice", "rows", name, f"{values['confidence']:.0%} interval", "", box=None)
    named = [each for each in values["slices"] if not each["found"]]
    found = [each for each in values["slices"] if each["found"]]
    for each in (*named[:MOST_SLICES], *found):
        score = each["scores"].get(name)
        value, _, interval = bounds(name, score).partition(" ") if score else ("undefined", "", "")
        worse = f"[yellow]worse by {each['found']['effect']:.2f} sd[/]" if each["found"] else ""
        table.add_row(escape(each["name"]), f"{each['rows']:,}", value, f"[dim]{escape(interval)}[/]", worse)
    if len(named) > MOST_SLICES:
        table.caption = f"{len(named) - MOST_SLICES:,} more named slices: --json"
    return table


def _calibration(values: Values) -> str:
    found = values["calibration"]
    if not found:
        return ""
    what = "bias" if found["what"] == "answer" else "calibration error"
    return f"{what} {found['error']:.3g} on average, {found['largest']:.3g} at most, in {len(found['bins'])} bins"


def _threshold(values: Values) -> str:
    from rayline.evaluation.scores import printed

    found = values["threshold"]
    if not found:
        return ""
    moved = (
        f"{name} {printed(name, found['at_half'][name]['value'])} -> {printed(name, each['value'])}"
        for name, each in found["at_value"].items()
        if name in found["at_half"]
    )
    cost = ""
    if found["cost_at_value"] is not None:
        cost = f", cost of a row {found['cost_at_half']:.4g} -> {found['cost_at_value']:.4g}"
    told = f"threshold {found['value']:.3f} for {found['rule']}, chosen on {found['rows']:,} validation rows"
    return f"{told}; on the test rows against 0.5: {', '.join(moved)}{cost}"


def _infrastructure(values: Values) -> str:
    found = values["infrastructure"]
    if not found:
        return ""
    if found["failure"]:
        return f"[red]✗[/] the bundle does not serve in a process of its own: {escape(found['failure'])}"
    one, batch = found["one"], found["batch"]
    broken = [each["quantity"] for each in found["verdicts"] if not each["ok"]]
    mark = "[green]✓[/]" if found["ok"] else f"[red]✗ beyond its limit of {', '.join(broken)}:[/]"
    return (
        f"{mark} the bundle answers one row in {one['p50_ms']:.2g} ms (p99 {one['p99_ms']:.2g}), {batch['rows']} in "
        f"{batch['p50_ms']:.2g} ms (p99 {batch['p99_ms']:.2g}); {found['memory_mb']:.0f} MiB in memory, "
        f"{found['size_mb']:.2g} MiB on disk"
    )
