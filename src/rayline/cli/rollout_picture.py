"""A rollout as a picture: phase, shares, steps, the running analysis and the last decisions."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rayline.rollout.plan import Analyse, Pause, PlanStep, SetWeight

if TYPE_CHECKING:
    from rayline.rollout.analysis import Measurement
    from rayline.rollout.state import AnalysisRun, RolloutState

BAR = 40
LAST_DECISIONS = 6
COLOURS = {"Healthy": "green", "Progressing": "cyan", "Paused": "yellow", "Degraded": "red"}
MARKS = {"Successful": "[green]✓[/]", "Failed": "[red]✗[/]", "Inconclusive": "[yellow]?[/]", "Error": "[red]![/]"}


def picture(state: RolloutState) -> RenderableType:
    """Return the rollout, drawn."""
    parts: list[RenderableType] = [_heading(state), _shares(state), _steps(state)]
    if state.analysis is not None:
        parts.append(_analysis(state.analysis))
    parts.append(_decisions(state))
    return Group(*parts)


def _heading(state: RolloutState) -> Text:
    colour = COLOURS[state.phase]
    way = f"v{state.stable} → v{state.canary}"
    return Text.from_markup(
        f"[bold]{escape(state.service)}[/]  {way}  [bold {colour}]{state.phase}[/]  {escape(state.message)}"
    )


def _shares(state: RolloutState) -> Text:
    weight = state.weight
    filled = round(BAR * weight / 100)
    bar = f"[blue]{'━' * (BAR - filled)}[/][magenta]{'━' * filled}[/]"
    return Text.from_markup(
        f"  [blue]v{state.stable} {100 - weight:>3} %[/] {bar} [magenta]v{state.canary} {weight} %[/]"
    )


def _steps(state: RolloutState) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    for place, step in enumerate(state.plan.steps):
        over = place < state.step or (place == state.step and state.step_done)
        over = over and state.phase != "Degraded"
        mark = "[green]✓[/]" if over else "[cyan]▶[/]" if place == state.step and not state.final else "[dim]·[/]"
        table.add_row(f"  {mark}", f"{place + 1}", _words(step))
    return table


def _words(step: PlanStep) -> str:
    if isinstance(step, SetWeight):
        return f"set weight {step.weight} %"
    if isinstance(step, Pause):
        return "pause until promoted" if step.seconds is None else f"pause {step.seconds:g} s"
    assert isinstance(step, Analyse)
    measures = ", ".join(metric.measure for metric in step.config.metrics)
    least = step.config.initial_delay + step.config.interval * step.config.count
    return f"analysis of {measures}: {step.config.count} times, {least:g} s at least"


def _analysis(run: AnalysisRun) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    for tally in run.tallies:
        if tally.last is not None:
            counts = f"{tally.successful} ok, {tally.failed} failed, {tally.inconclusive} open"
            table.add_row(f"    {MARKS[tally.last.verdict]}", _reason(tally.last), f"[dim]{counts}[/]")
    return table


def _reason(measurement: Measurement) -> str:
    return escape(measurement.reason)


def _decisions(state: RolloutState) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    for decision in state.decisions[-LAST_DECISIONS:]:
        at = datetime.fromtimestamp(decision.at).strftime("%H:%M:%S")
        table.add_row(f"  [dim]{at}[/]", f"[dim]{decision.weight} %[/]", escape(decision.reason))
    return table
