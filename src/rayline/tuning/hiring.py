"""How many workers a Study takes on or gives back, from those that it has and from what there is room for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rayline.training.sharing import Share


@dataclass(frozen=True, slots=True)
class Count:
    """The workers of a Study.

    Attributes:
        busy: with a trial.
        idle: up, without one; ``bored`` of them for so long that they may go.
        starting: hired for the nodes that there are and not up; ``unplaced`` of them have no process yet.
        apart: hired for nodes that are still to come.
    """

    busy: int = 0
    idle: int = 0
    bored: int = 0
    starting: int = 0
    unplaced: int = 0
    apart: int = 0

    @property
    def here(self) -> int:
        """Those on the nodes that there are, or about to be."""
        return self.busy + self.idle + self.starting


@dataclass(frozen=True, slots=True)
class Move:
    """What to do: how many to take on, here or on nodes to come, and how many of each kind to give back."""

    hire: int = 0
    hire_apart: int = 0
    drop_idle: int = 0
    drop_starting: int = 0
    drop_apart: int = 0


def allowed(count: Count, share: Share) -> int:
    """Return how many workers may be on the nodes that there are.

    One whose process is not there yet may be counted neither as ours nor as free room: only a service that waits is
    given way to without looking twice.
    """
    if not share.kept and not share.pressed:
        return count.here
    return share.now + (0 if share.pressed else count.unplaced)


def next_move(count: Count, share: Share, waiting: int, most: int | None) -> Move:
    """Return what to do next.

    Args:
        count: the workers that there are.
        share: how many there may be.
        waiting: jobs that no worker has.
        most: workers at once that were asked for, room or not; None takes what there is room for.
    """
    wanted = count.busy + waiting
    if most is not None:
        wanted = min(wanted, most)
    over = max(0, count.here - allowed(count, share))
    drop_starting = min(count.starting, over)
    drop_idle = min(count.idle, over - drop_starting)
    here = count.here - drop_starting - drop_idle
    spare = max(0, here + count.apart - wanted)
    drop_apart = min(count.apart, spare)
    spare -= drop_apart
    unwanted = min(count.starting - drop_starting, spare)
    bored = max(0, min(count.bored - drop_idle, spare - unwanted))
    if over or spare or drop_apart:
        return Move(0, 0, drop_idle + bored, drop_starting + unwanted, drop_apart)
    return _hired(count, share, wanted, most is not None)


def _hired(count: Count, share: Share, wanted: int, asked: bool) -> Move:
    """Return whom to hire. What is kept for services may not be taken by those who wait for a node to come."""
    guarded = bool(share.kept or share.pressed)
    room = max(0, share.now - count.here)
    changed = min(count.apart, room)  # room has come up here for one who waits for a node
    ceiling = wanted if asked and not guarded else min(wanted, share.most)
    missing = max(0, ceiling - count.here - count.apart)
    here = min(missing, max(0, room - changed))
    later = missing - here
    if not guarded:
        return Move(hire=here + later + changed, drop_apart=changed)
    return Move(hire=here + changed, hire_apart=later if share.grows else 0, drop_apart=changed)


def told(busy: int, wanted: int, share: Share, pending: int) -> str:
    """Return what a Study waits for, in words; nothing where it waits for nothing.

    Args:
        busy: trials that run.
        wanted: trials that run or could.
        share: how many may.
        pending: workers that have not come up.
    """
    if busy >= wanted:
        return ""
    nodes = share.nodes_for(max(0, min(wanted, share.most) - share.now)) if pending and share.grows else 0
    if nodes:
        count = min(wanted, max(busy, share.most))
        return f"{busy} of {count} trials running: waiting for {nodes} node{'s' * (nodes != 1)}"
    if busy or share.now:
        return ""
    kept = f"; {share.kept:g} CPUs are left to services (cluster.reserve_cpus)" if share.kept else ""
    return f"0 of {wanted} trials running: the cluster has no room for one just now{kept}"
