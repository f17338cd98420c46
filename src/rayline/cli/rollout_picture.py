"""A rollout as a picture: phase, shares, steps with their times, both arms, the analysis, the last decisions."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rayline.cli.rollout_words import latency_words, seconds_words, span_words, step_words
from rayline.rollout.plans.outlook import least, outlook

if TYPE_CHECKING:
    from rayline.rollout.analysis.analysis import Measurement
    from rayline.rollout.analysis.glance import Arm, Glance
    from rayline.rollout.state import AnalysisRun, RolloutState

BAR = 40
LAST_DECISIONS = 6
COLOURS = {"Healthy": "green", "Progressing": "cyan", "Paused": "yellow", "Degraded": "red", "Concluded": "green"}
MARKS = {"Successful": "[green]✓[/]", "Failed": "[red]✗[/]", "Inconclusive": "[yellow]?[/]", "Error": "[red]![/]"}


def picture(state: RolloutState, *, now: float | None = None, seen: Glance | None = None) -> RenderableType:
    """Return the rollout, drawn.

    Args:
        state: as last decided.
        now: Unix time, from which what is left of a step is told; default: when it was last decided upon.
        seen: what both arms did lately, where it is known.
    """
    at = state.updated if now is None else now
    parts: list[RenderableType] = [_heading(state, at), _message(state), _shares(state), "", _steps(state, at), ""]
    if seen is not None and not state.settled:
        parts += [_arms(state, seen), ""]
    analyses = [_analysis(run) for run in (state.analysis, state.background) if run is not None and run.rounds]
    parts += [*analyses, ""] if analyses else []
    parts.append(_decisions(state))
    return Group(*parts)


def history_table(rollouts: tuple[RolloutState, ...]) -> Table:
    """Return all rollouts of a service, a line each, the latest first."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("began", "versions", "plan", "phase"):
        table.add_column(column, no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("reason")
    for each in rollouts:
        table.add_row(
            datetime.fromtimestamp(each.began).strftime("%Y-%m-%d %H:%M"),
            f"v{each.stable} → v{each.canary}",
            "undo" if each.kind == "undo" else each.plan.strategy,
            f"[{COLOURS[each.phase]}]{each.phase}[/]",
            seconds_words(each.seconds),
            escape(each.message),
        )
    return table


def _heading(state: RolloutState, now: float) -> Text:
    colour = COLOURS[state.phase]
    words = [
        f"[bold]{escape(state.service)}[/]",
        f"v{state.stable} → v{state.canary}",
        f"[dim]{'undo' if state.kind == 'undo' else state.plan.strategy}[/]",
        f"[bold {colour}]{state.phase}[/]",
    ]
    if state.final:
        words.append(f"[dim]took {seconds_words(state.seconds)}[/]")
    else:
        words.append(f"[dim]since {seconds_words(max(0.0, now - state.began))}[/]")
        rest = least(outlook(state, now))
        if rest > 0:
            words.append(f"[dim]{seconds_words(rest)} left at least[/]")
    return Text.from_markup("  ".join(words))


def _message(state: RolloutState) -> RenderableType:
    return Padding(escape(state.message), (0, 0, 0, 2))


def _shares(state: RolloutState) -> RenderableType:
    weight = state.weight
    filled = round(BAR * weight / 100)
    bar = f"[blue]{'━' * (BAR - filled)}[/][magenta]{'━' * filled}[/]"
    lines = [f"  [blue]v{state.stable} {100 - weight:>3} %[/] {bar} [magenta]v{state.canary} {weight} %[/]"]
    if state.mirror:
        lines.append(f"  [magenta]v{state.canary} gets copies of {state.mirror} % of the requests[/]")
    lines += [f"  [magenta]v{each.number} gets {escape(each.header)}: {escape(each.value)}[/]" for each in state.routes]
    return Text.from_markup("\n".join(lines))


def _steps(state: RolloutState, now: float) -> Table:
    table = _table()
    for place, (step, span) in enumerate(zip(state.plan.steps, outlook(state, now), strict=True)):
        over = place < state.step or (
            place == state.step and (state.step_done or state.phase in ("Healthy", "Concluded"))
        )
        over = over and state.phase != "Degraded"
        here = place == state.step and not over
        current = here and not state.final
        mark = "[green]✓[/]" if over else "[cyan]▶[/]" if current else "[red]✗[/]" if here else "[dim]·[/]"
        words = span_words(span, begun=current)
        text = escape(step_words(step))
        table.add_row(f"  {mark}", f"{place + 1}", f"[bold]{text}[/]" if current else text, f"[dim]{words}[/]")
    return table


def _arms(state: RolloutState, seen: Glance) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column(f"  over {seconds_words(seen.seconds)}", no_wrap=True)
    regression = any(arm.mean_absolute_error is not None for arm in seen.arms)
    for column in ("requests", "errors", "p50", "p95", "mean abs. error" if regression else "accuracy", "feedback"):
        table.add_column(column, justify="right", no_wrap=True)
    for arm in seen.arms:
        colour, role = ("magenta", "canary") if arm.number == state.canary else ("blue", "stable")
        table.add_row(f"  [{colour}]v{arm.number} {role}[/]", *_arm(arm, regression))
    return table


def _arm(arm: Arm, regression: bool) -> tuple[str, ...]:
    quality = arm.mean_absolute_error if regression else arm.accuracy
    return (
        f"{arm.requests:,}",
        "-" if arm.error_rate is None else f"{100 * arm.error_rate:.2f} %",
        latency_words(arm.p50),
        latency_words(arm.p95),
        "-" if quality is None else f"{quality:.4g}",
        f"{arm.feedback:,}",
    )


def _analysis(run: AnalysisRun) -> Table:
    table = _table()
    for tally in run.tallies:
        if tally.last is not None:
            counts = f"{tally.successful} ok, {tally.failed} failed, {tally.inconclusive} open"
            table.add_row(f"    {MARKS[tally.last.verdict]}", _reason(tally.last), f"[dim]{counts}[/]")
    return table


def _reason(measurement: Measurement) -> str:
    return escape(measurement.reason)


def _decisions(state: RolloutState) -> Table:
    table = _table()
    for decision in state.decisions[-LAST_DECISIONS:]:
        at = datetime.fromtimestamp(decision.at).strftime("%H:%M:%S")
        table.add_row(f"  [dim]{at}[/]", f"[dim]{decision.weight} %[/]", escape(decision.reason))
    return table


def _table() -> Table:
    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
