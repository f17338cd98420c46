"""A need against a capacity: what becomes of it, with the inequality in words and a way out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rayline.capacity import Capacity, matches, whole
from rayline.preflight import words
from rayline.preflight.needs import MANY, Need
from rayline.preflight.packing import Placement, place

Outcome = Literal["fits", "waits", "grows", "unsure", "never"]
"""``fits``: there is room now. ``waits``: once others have ended. ``grows``: once the autoscaler has added nodes.
``unsure``: not on these nodes, and nobody could tell whether more come. ``never``: not ever."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one need.

    Attributes:
        words: why, as one sentence without a full stop.
        way_out: what to do about a need that is never met; empty otherwise.
        new: nodes that must come for what is asked at the least, or at the most where more is wanted, by kind.
    """

    need: Need
    outcome: Outcome
    words: str
    way_out: str = ""
    new: Mapping[str, int] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        """Whether nothing should start."""
        return self.outcome == "never"

    @property
    def told(self) -> bool:
        """Whether a user should hear of it though it stops nothing."""
        return self.outcome in ("waits", "grows", "unsure")


def judged(needs: Iterable[Need], capacity: Capacity) -> tuple[Verdict, ...]:
    """Return what becomes of each need."""
    return tuple(judge(need, capacity) for need in needs)


def judge(need: Need, capacity: Capacity) -> Verdict:
    """Return what becomes of a need.

    ``never`` is only said of what is proven: the bundles of a need are alike, so they are counted node by node, and
    what others keep is weighed against all that can be reached.
    """
    if need.here:
        return _on_this_machine(need, capacity)
    found = place(capacity, need.each, need.labels, need.least)
    short = _shortfall(need, capacity)
    if found.reach < need.least or short:
        said = words.never(need, capacity, found.reach, short)
        if capacity.reach == "unknown":
            return Verdict(need, "unsure", f"{said}; whether more nodes can come is not known: {capacity.why}")
        if capacity.limits and not short:  # kinds of nodes compete for what the limits leave: this is no proof
            return Verdict(need, "unsure", said)
        return Verdict(need, "never", said, words.way_out(need, capacity))
    now = _count(need, found.free, capacity.free, {}, capacity)
    if now >= need.least:
        return _fits(need, capacity, found, now)
    if _count(need, found.has, capacity.has, need.keeps, capacity) >= need.least:
        return Verdict(need, "waits", f"{words.asks(need)}, and {words.room(need, capacity)} are free now")
    return Verdict(need, "grows", f"{words.asks(need)}, which needs {words.nodes(found.new, capacity)}", new=found.new)


def refusal(verdicts: Sequence[Verdict]) -> str:
    """Return the message that refuses to start, empty where nothing is refused."""
    no = [each for each in verdicts if each.refused]
    lines = [f"{each.need.step}: {each.words}. {each.way_out}" for each in no]
    return "" if not lines else "nothing was started. " + "\n".join(lines)


def _on_this_machine(need: Need, capacity: Capacity) -> Verdict:
    asked = need.each["GPU"]
    if capacity.gpus_here >= asked:
        return Verdict(need, "fits", f"trains in this process, on a GPU of {capacity.gpus_here} here")
    said = f"needs {asked:g} GPU more than this machine has: it trains in this process, and there is no GPU here"
    return Verdict(need, "never", said, "Set train.use_gpu to auto, or run on a node with a GPU.")


def _fits(need: Need, capacity: Capacity, found: Placement, now: int) -> Verdict:
    """Tell how many of an elastic need find room, and what would have to come for all of them."""
    if need.most == MANY:
        return Verdict(need, "fits", f"{now} {need.what}s at once fit into {words.room(need, capacity)}")
    if need.most == need.least or now >= need.most:
        return Verdict(
            need,
            "fits",
            f"{words.counted(need, need.most)} fit{'s' * (need.most == 1)} into {words.room(need, capacity)}",
        )
    wide = place(capacity, need.each, need.labels, need.most)
    said = f"{now} of at most {need.most} {need.what}s have room now"
    if not wide.new:
        return Verdict(need, "fits", said)
    return Verdict(need, "grows", f"{said}; all {need.most} need {words.nodes(wide.new, capacity)}", new=wide.new)


def _count(
    need: Need, placed: int, amount_of: Callable[[str], float], kept: Mapping[str, float], capacity: Capacity
) -> int:
    """Return how many of so many placed bundles leave what must stay, where ``amount_of`` gives what there is."""
    reserve = _reserve(need, capacity)
    stays = {name: whole(kept.get(name, 0.0) + (reserve if name == "CPU" else 0.0)) for name in need.each}
    fits = [
        (whole(amount_of(name)) - stays[name]) // whole(amount) for name, amount in need.each.items() if whole(amount)
    ]
    return max(0, min([placed, *fits]))


def _shortfall(need: Need, capacity: Capacity) -> dict[str, float]:
    """Return how much of each resource even all that can be reached lacks, beside what must stay."""
    fitting, reserve, lacks = _labelled(capacity, need.labels), _reserve(need, capacity), {}
    for name, amount in need.each.items():
        asked = need.least * whole(amount)
        stays = whole(need.keeps.get(name, 0.0) + (reserve if name == "CPU" else 0.0))
        # What must stay may lie on nodes without the labels.
        missing = max(asked - whole(fitting.can_reach(name)), asked + stays - whole(capacity.can_reach(name)))
        if missing > 0:
            lacks[name] = missing / whole(1)
    return lacks


def _reserve(need: Need, capacity: Capacity) -> float:
    """Return the CPUs that stay free: what no node of a service can have is kept for none."""
    return min(need.reserve, _labelled(capacity, need.reserve_on).can_reach("CPU")) if need.reserve else 0.0


def _labelled(capacity: Capacity, labels: Mapping[str, str]) -> Capacity:
    """Return the part of a cluster whose nodes carry labels."""
    return replace(
        capacity,
        nodes=tuple(node for node in capacity.nodes if matches(labels, node.labels)),
        kinds=tuple(kind for kind in capacity.kinds if matches(labels, kind.labels)),
    )
