"""A rollout as gauges: where it stands, what its canary is to have, how its analyses ended. Pure but for ``shown``."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from rayline import meters
from rayline.rollout.analysis.analysis import Verdict
from rayline.rollout.state import Phase, RolloutState

Reading = tuple[str, float, dict[str, str]]
"""A gauge of ``meters``, its value, and its labels."""


def readings(state: RolloutState) -> list[Reading]:
    """Return what the gauges of a rollout show; each phase and verdict has a value, so that a graph has no holes."""
    service = {"service": state.service}
    ended = Counter(each.verdict for each in state.analyses if each.verdict)
    return [
        ("rayline_rollout_step", min(state.step + 1, len(state.plan.steps)), service),
        ("rayline_rollout_steps", len(state.plan.steps), service),
        ("rayline_rollout_canary_percent", state.weight, {**service, "version": str(state.canary)}),
        *(("rayline_rollout_phase", float(phase == state.phase), {**service, "phase": phase}) for phase in _PHASES),
        *(("rayline_rollout_verdicts", ended[each], {**service, "verdict": each}) for each in _VERDICTS),
    ]


def shown(state: RolloutState | None) -> None:
    """Show the rollout of a service; a canary of an earlier one ends."""
    if state is None:
        return
    canary = str(state.canary)
    for gauge, values in meters.shown():
        if gauge == "rayline_rollout_canary_percent" and values[0] == state.service and values[1] != canary:
            meters.hide(gauge, 0.0, service=state.service, version=values[1])
    for gauge, value, labels in readings(state):
        meters.show(gauge, value, **labels)


_PHASES: tuple[Phase, ...] = get_args(Phase)
_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
