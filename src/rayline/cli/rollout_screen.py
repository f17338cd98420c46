"""A rollout drawn anew while it goes on: at each decision, and in between as time goes by."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from rayline.cli.rollout_picture import picture
from rayline.errors import ServiceError

if TYPE_CHECKING:
    from rayline.rollout.analysis.glance import Glance
    from rayline.rollout.state import RolloutState

FRAMES_PER_S = 4
GLANCE_S = 1.0


class Screen:
    """The latest of a rollout; drawn by rich's own thread."""

    def __init__(self, look: Callable[[], Glance | None]) -> None:
        """Begin without a rollout. ``look`` gives what both arms did lately."""
        self._look = look
        self._looked = 0.0
        self._seen: Glance | None = None
        self.state: RolloutState | None = None

    def draw(self) -> RenderableType:
        """Return the rollout as of now."""
        if self.state is None:
            return Text("")
        if time.monotonic() - self._looked >= GLANCE_S:
            self._looked = time.monotonic()
            try:
                self._seen = self._look()
            except ServiceError:
                self._seen = None  # the picture lives on what it can read
        return picture(self.state, now=time.time(), seen=self._seen)


def watched(console: Console, states: Iterable[RolloutState], look: Callable[[], Glance | None]) -> RolloutState:
    """Draw a rollout until ``states`` ends; leave its last picture, and return its last state.

    Where the console is no terminal, only that last picture is printed.
    """
    screen = Screen(look)
    with Live(console=console, refresh_per_second=FRAMES_PER_S, get_renderable=screen.draw) as live:
        for state in states:
            screen.state = state
            live.refresh()
    assert screen.state is not None
    return screen.state
