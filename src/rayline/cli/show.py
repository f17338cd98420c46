"""What the command line prints. Everything here takes finished values; nothing here decides."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from rayline.cli import data_pages
from rayline.errors import EnvironmentFailed
from rayline.events import (
    Epoch,
    Event,
    Finished,
    Listener,
    Notice,
    Resumed,
    RolloutMoved,
    Started,
    TrialEnded,
    TrialEpoch,
)

if TYPE_CHECKING:
    from rayline.check import Checked
    from rayline.config import Config
    from rayline.doctor import Report
    from rayline.features.online.materialize import Materialized
    from rayline.flow import Outcome
    from rayline.lineage import Lineage
    from rayline.offline import Predicted
    from rayline.preview import Preview
    from rayline.release import Released
    from rayline.rollout.analysis.glance import Glance
    from rayline.rollout.state import RolloutState
    from rayline.scaffold import Scaffold
    from rayline.standing import ServiceStanding, Standing

console = Console(highlight=False)

WORKING = {
    "features": "reading, dividing, fitting and applying features on Ray Data",
    "train": "training",
    "tune": "searching",
    "evaluate": "measuring on the test part",
    "skew": "asking the bundle as a service would",
    "bless": "judging by the gates, beside the champion",
    "register": "registering",
    "release": "bringing to live traffic",
}


def line(text: str) -> None:
    """Print one plain line."""
    console.print(text, markup=False, soft_wrap=True)


def notices(event: Event) -> None:
    """Print what the user should know, of a verb that draws no steps."""
    if isinstance(event, Notice):
        line(event.text)


def compact(value: Any) -> str:
    """Return JSON on one line."""
    return jsonlib.dumps(value, separators=(",", ":"))


@contextmanager
def flow(name: str, quiet: bool = False) -> Iterator[Listener]:
    """Draw the steps of a flow as they happen; with ``quiet`` nothing is drawn."""
    if quiet:
        yield lambda event: None
        return
    console.print(f"[bold]{name}[/]")
    with console.status("starting") as status:
        yield FlowScreen(status)


class FlowScreen:
    """One line for each finished step, and a moving one for the step at work."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def __call__(self, event: Event) -> None:
        """Draw an event."""
        match event:
            case Started(step):
                self._status.update(f"[cyan]{step}[/]  {WORKING.get(step, step)}")
            case Finished(step, seconds, cached, summary):
                time = "[dim]cached[/]" if cached else f"[dim]{seconds:.1f} s[/]"
                console.print(f"  [green]✓[/] [cyan]{step:<9}[/] {escape(summary)}  {time}", soft_wrap=True)
            case Epoch(number, of, metrics):
                self._status.update(f"[cyan]train[/]  epoch {number} of {of}  {_metrics(metrics)}")
            case Resumed(step, after, of, what):
                console.print(f"    {step} resumes after {what} {after} of {of}", soft_wrap=True)
            case TrialEpoch(number, trials, epoch, metrics):
                self._status.update(
                    f"[cyan]tune[/]  trial {number + 1} of {trials}, epoch {epoch}  {_metrics(metrics)}"
                )
            case TrialEnded(number, of, state, params, score):
                setting = ", ".join(f"{_parameter(key)} {_short(value)}" for key, value in params.items())
                console.print(
                    f"    [dim]trial {number + 1} of {of}[/]  {score}  [dim]{escape(setting)}  {state}[/]",
                    soft_wrap=True,
                )
            case RolloutMoved(phase, _, canary, weight, message):
                self._status.update(f"[cyan]release[/]  {phase}: version {canary} at {weight} %")
                console.print(f"    v{canary} [magenta]{weight:>3} %[/]  {escape(message)}", soft_wrap=True)
            case Notice(text):
                console.print(f"    {escape(text)}", soft_wrap=True)


def scaffolded(found: Scaffold) -> None:
    """Print what `init` saw and wrote."""
    schema = found.inferred.schema
    kinds: dict[str, int] = {}
    for column in schema.columns:
        kinds[column.kind] = kinds.get(column.kind, 0) + 1
    console.print(f"[bold]{found.name}[/]  {found.rows:,} rows, target [cyan]{escape(schema.target)}[/], {schema.task}")
    console.print(f"  inputs    {', '.join(f'{count} {kind}' for kind, count in kinds.items())}")
    for each in found.inferred.dropped:
        console.print(f"  [yellow]left out[/]  {escape(each.column)} {escape(each.reason)}", soft_wrap=True)
    told = {each.column for each in found.inferred.dropped}
    data_pages.leakage(console, tuple(each for each in found.leakage if not each.columns or set(each.columns) - told))
    wrote = f"wrote [bold]{escape(str(found.file))}[/] and [bold]{escape(str(found.schema_file))}[/]"
    console.print(f"{wrote}; next: rayline run {escape(str(found.file))}", soft_wrap=True)


def plan(found: Preview, *, as_json: bool = False) -> None:
    """Print what `run` would do."""
    from rayline.cli import plan_page

    if as_json:
        _json(found.to_json())
    else:
        plan_page.page(console, found)


def examined(report: Report, *, as_json: bool = False) -> int:
    """Print what `doctor` saw; return the exit code."""
    from rayline.cli import doctor_page

    if as_json:
        _json(report.to_json())
    else:
        doctor_page.page(console, report)
    return 0 if report.ok else EnvironmentFailed.exit_code


def outcome(config: Config, ended: Outcome, *, as_json: bool = False) -> int:
    """Print where a flow came to, and how to go on; return the exit code."""
    if as_json:
        steps = {record.step: {"seconds": record.seconds, **record.result} for record in ended.steps}
        _json(
            {
                "name": config.name,
                "steps": steps,
                "released": ended.released and asdict(ended.released),
                "notices": ended.notices,
            }
        )
    elif ended.released is not None:
        return released(ended.released)
    return 0 if ended.released is None or ended.released.ok else 1


def evaluated(values: Mapping[str, Any]) -> None:
    """Print the tables of an evaluation."""
    from rayline.cli import evaluation_pages

    evaluation_pages.evaluation(console, values)


def released(ended: Released) -> int:
    """Print what a release ended in; return the exit code."""
    colour = "green" if ended.ok else "red"
    console.print(f"[bold {colour}]{ended.phase}[/]  {escape(ended.message)}", soft_wrap=True)
    console.print(f"  service  {ended.url}/predict", soft_wrap=True)
    return 0 if ended.ok else 1


def checked(done: Checked, *, as_json: bool = False, applied: bool = False) -> int:
    """Print what a check found; return 1 where something of it stops a run."""
    if as_json:
        _json(data_pages.as_values(done, applied))
    else:
        data_pages.checked(console, done)
    return 0 if done.valid else 1


def updated(done: Checked, file: Path) -> None:
    """Print that a schema file was changed, and what still breaks it."""
    console.print(f"changed [bold]{escape(str(file))}[/]", soft_wrap=True)
    console.print("[green]✓[/] the data fits it" if not done.anomalies else data_pages.anomaly_table(done.anomalies))


def confirmed(question: str) -> bool:
    """Ask at a terminal; anywhere else the answer is no."""
    from rich.prompt import Confirm

    return console.is_terminal and sys.stdin.isatty() and Confirm.ask(question, console=console, default=False)


@contextmanager
def reading(quiet: bool = False) -> Iterator[None]:
    """Tell that feature tables are being read; with ``quiet`` nothing is drawn."""
    if quiet:
        yield
        return
    with console.status("reading the feature tables"):
        yield


def materialized(done: Materialized) -> None:
    """Print what became of one table."""
    if done.elsewhere is not None:
        console.print(
            f"  [dim]·[/] [cyan]{escape(done.table)}[/] [dim]left to Feast, which writes it by[/] "
            f"feast -c {escape(done.elsewhere.removeprefix('feast:').rpartition('#')[0])} materialize-incremental TIME",
            soft_wrap=True,
        )
        return
    if done.unchanged:
        console.print(
            f"  [green]✓[/] [cyan]{escape(done.table)}[/] {done.keys:,} keys  [dim]unchanged[/]", soft_wrap=True
        )
        return
    counts = f"{done.kept:,} rows kept of {done.rows:,}; the store has {done.keys:,} keys"
    console.print(f"  [green]✓[/] [cyan]{escape(done.table)}[/] {counts}  [dim]{done.seconds:.1f} s[/]", soft_wrap=True)


def materialized_json(done: Iterable[Materialized]) -> None:
    """Print what became of all tables, as JSON."""
    _json({"tables": [asdict(each) for each in done]})


def predicted(done: Predicted, *, as_json: bool = False) -> None:
    """Print where predictions were written."""
    if as_json:
        _json(asdict(done))
        return
    console.print(f"{done.rows:,} rows by version {done.version} in {done.seconds:.1f} s: {done.path}", soft_wrap=True)


def lineage(found: Lineage, *, as_json: bool = False) -> None:
    """Print what a version was made of, and where it has been."""
    from rayline.cli.lineage_picture import picture

    if as_json:
        _json(asdict(found))
    else:
        console.print(picture(found))


def card(folder: Path) -> None:
    """Print a model card, and where its page is."""
    from rich.markdown import Markdown

    from rayline.card.writing import HTML, MARKDOWN

    text = (folder / MARKDOWN).read_text(encoding="utf-8")
    console.print(Markdown(text) if console.is_terminal else text, markup=False, soft_wrap=not console.is_terminal)
    line(f"The page with its plots: {folder / HTML}")


def standing(found: Standing, *, as_json: bool = False) -> None:
    """Print where a project stands."""
    from rayline.cli import standing_page

    if as_json:
        _json(standing_page.as_values(found))
    else:
        standing_page.page(console, found)


def rollout(state: RolloutState, *, as_json: bool = False, service: ServiceStanding | None = None) -> int:
    """Print a rollout, and whether its service runs where that is known; return its exit code."""
    from rayline.cli.rollout_picture import picture

    if as_json:
        now = {} if service is None else {"running": service.running, "last_seen": service.last_seen}
        _json({**state.to_json(), **now})
    else:
        console.print(picture(state))
        _not_running(service)
    return _said_no(state)


def _not_running(service: ServiceStanding | None) -> None:
    from rayline.cli.standing_page import service_line

    if service is not None and not service.running:
        console.print(f"\n[yellow]{service_line(service)}[/]; `rayline deploy` or `run` brings it back", soft_wrap=True)


def watched_rollout(states: Iterable[RolloutState], look: Callable[[], Glance | None]) -> int:
    """Draw a rollout anew until it ends or waits; return its exit code. ``look`` gives what both arms did lately."""
    from rayline.cli.rollout_screen import watched

    return _said_no(watched(console, states, look))


def rollouts(found: tuple[RolloutState, ...], *, as_json: bool = False, service: ServiceStanding | None = None) -> None:
    """Print all rollouts of a service, the latest first."""
    from rayline.cli.rollout_picture import history_table

    if as_json:
        _json([_rollout_line(each) for each in found])
    else:
        console.print(history_table(found))
        _not_running(service)


def _rollout_line(state: RolloutState) -> dict[str, Any]:
    return {
        "id": state.id,
        "kind": state.kind,
        "strategy": state.plan.strategy,
        "stable": state.stable,
        "canary": state.canary,
        "phase": state.phase,
        "reason": state.message,
        "began": state.began,
        "seconds": state.seconds,
    }


def _said_no(state: RolloutState) -> int:
    """Return 1 where it was taken back, or waits because an analysis gave no verdict; a planned pause is no refusal."""
    return 1 if state.phase == "Degraded" or state.paused_for in ("verdict", "breach") else 0


def _json(value: Any) -> None:
    print(jsonlib.dumps(value, indent=2, default=str))


def _metrics(metrics: Any) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _parameter(key: str) -> str:
    """Return the last word of a searched key, and of a column's setting the column's name too."""
    prefix = "features.columns."
    return key.removeprefix(prefix) if key.startswith(prefix) else key.rpartition(".")[2]


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
