"""A job's log as it is followed at a terminal: what it prints, and one moving line about stage and remaining time."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from rayline.jobs.lock import MARK as LACKS
from rayline.progress import Progress, read_line


class JobScreen:
    """Prints a followed job's lines; those that tell progress become the moving line."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.name = ""
        self._status: Status | None = None
        self._open = ""
        self.last: Progress | None = None

    def sent(self, name: str, attempt: int) -> None:
        """Say what the job is called."""
        self.name = name
        again = f" (attempt {attempt})" if attempt > 1 else ""
        self.console.print(f"job [bold]{escape(name)}[/]{again}", soft_wrap=True)
        self._open = ""

    def printed(self, text: str) -> None:
        """Print the whole lines of a piece of text; keep what is unfinished for the next one."""
        *lines, self._open = (self._open + text).split("\n")
        for line in lines:
            self._line(line)

    def note(self, text: str) -> None:
        """Print what happened around the job."""
        self.console.print(f"[yellow]{escape(text)}[/]", soft_wrap=True)

    def resting(self) -> None:
        """End the moving line, and print what the last piece left open."""
        if self._open:
            self._line(self._open)
            self._open = ""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _line(self, line: str) -> None:
        found = read_line(line)
        if found is not None:
            self.last = found
            self._moving(found)
        elif not line.startswith(LACKS):
            self.console.print(line, markup=False, soft_wrap=True)

    def _moving(self, found: Progress) -> None:
        if not self.console.is_terminal:
            return
        text = f"[cyan]{escape(found.stage)}[/]  {escape(words(found))}"
        if self._status is None:
            self._status = self.console.status(text)
            self._status.start()
        self._status.update(text)


def words(found: Progress) -> str:
    """Return how far a job is, in words: step, units, remaining time."""
    if found.stage == "done":
        return saved(found) or "all steps ran"
    parts = [f"step {found.step} of {found.steps}"]
    if found.of:
        parts.append(
            f"{found.done} {found.unit}" if found.unit.startswith("%") else f"{found.unit} {found.done} of {found.of}"
        )
    if found.eta_s is not None:
        parts.append(f"about {duration(found.eta_s)} left")
    elif found.stage_eta_s:
        parts.append(f"about {duration(found.stage_eta_s)} left of this step")
    return ", ".join(parts)


def saved(found: Progress) -> str:
    """Return what did not run again, and the time that it took when it ran; nothing where all ran."""
    if not found.cached:
        return ""
    names = ", ".join(found.cached)
    return f"{len(found.cached)} of {found.steps} steps were cached ({names}): {duration(found.saved_s)} saved"


def duration(seconds: float) -> str:
    """Return a duration as people read it."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 or seconds == 0 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
