"""How the demo looks: chapters, steps, a moving picture of the traffic, and a table at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from rayline.cli import show
from rayline.events import Chapter, Event

if TYPE_CHECKING:
    from rayline.demo.story import DemoReport


class DemoScreen(show.FlowScreen):
    """Draws the flow's events, and chapters between them."""

    def __call__(self, event: Event) -> None:
        """Draw an event."""
        if isinstance(event, Chapter):
            show.console.print(f"\n[bold]{event.title}[/]")
        else:
            super().__call__(event)

    def closing(self, report: DemoReport) -> int:
        """Print the table and where to look; return the exit code: 0 only where no request failed."""
        console = show.console
        console.print("\n[bold]What the clients saw[/]")
        table = Table("phase", "version", "requests", "share", "failures", "p50", "p95", box=None, pad_edge=False)
        for line in report.answered:
            table.add_row(
                line.phase,
                f"v{line.version}",
                f"{line.requests:,}",
                f"{line.share:.0%}",
                f"[red]{line.failures}[/]" if line.failures else "0",
                f"{line.p50 * 1000:.1f} ms",
                f"{line.p95 * 1000:.1f} ms",
            )
        console.print(table)
        requests = sum(line.requests for line in report.answered)
        colour = "green" if report.failures == 0 else "red"
        console.print(f"\n[{colour}]{requests:,} requests, {report.failures} failed[/], in {report.seconds:.0f} s")
        console.print(
            f"[green]version {report.promoted} promoted[/]; [red]version {report.returned} taken back[/], "
            f"which its gate had refused:"
        )
        console.print(f"  {escape(report.reason)}", soft_wrap=True)
        console.print(f"\nRuns, versions and decisions in MLflow:  {report.tracking}", soft_wrap=True)
        self._address(report)
        console.print("Your own table:  rayline init my.csv --target COLUMN && rayline run rayline.yaml")
        return 0 if report.failures == 0 else 1

    def _address(self, report: DemoReport) -> None:
        if not report.kept:
            show.console.print("The service was stopped; `rayline demo --keep` leaves it up.")
            return
        body = {"rows": [report.example]}
        show.console.print(f"The service is up:  {report.url}/predict", soft_wrap=True)
        show.line(f"  curl {report.url}/predict -d '{show.compact(body)}'")
        show.line(f"  rayline stop --storage {report.storage} ends it")


@contextmanager
def demo_screen() -> Iterator[DemoScreen]:
    """Open the screen."""
    with show.console.status("starting") as status:
        yield DemoScreen(status)
