"""Who works for a Study: Ray actors on the nodes that there are, and on those that come for them."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayError

from rayline.capacity.reading import elsewhere
from rayline.errors import ClusterError
from rayline.training.sharing import Share
from rayline.tuning.hiring import Count, allowed, next_move, told
from rayline.tuning.jobs import Job, News
from rayline.tuning.workers import Worker

LOOK_EVERY_S = 2.0
"""How often the cluster is asked what room there is."""

BORED_S = 5.0
"""A worker with nothing to do for so long is given back: the last of a generation may take longer than the others."""

START_ATTEMPTS = 3


@dataclass
class _Seat:
    """A worker, up or still to come, and the trial that it has.

    Attributes:
        apart: whether it may only be on a node that is still to come.
        placed: whether it has a process, up or not.
        since: when it was hired, or last became idle.
    """

    actor: Any
    apart: bool = False
    since: float = 0.0
    placed: bool = False
    up: bool = False
    number: int | None = None


@dataclass(frozen=True)
class Hiring:
    """What each worker is hired with.

    Attributes:
        cpus, gpus: that each takes.
        builder: what they will train.
        most: workers at once; None takes what there is room for. A number is asked for, room or not.
        low: whether the operating system is to serve others first.
        labels: a label selector of the nodes that they may be on.
    """

    cpus: float
    gpus: float
    builder: str
    most: int | None = None
    low: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


class Roomy(Protocol):
    """Who knows how many workers there may be."""

    def first(self) -> Share:
        """Return it before any is hired. Raises ``ClusterError`` where not even one will ever have room."""
        ...

    def look(self, ours: int) -> Share:
        """Return it as of now, with ``ours`` on their nodes. Raises ``ClusterError`` where nobody answers."""
        ...


class Pool:
    """A ``Crew`` of Ray actors, as many as there are jobs for and as the cluster has room for.

    Workers for which nodes must come are hired all the same and stay pending: that is how a cluster that scales by
    itself learns to grow. Only workers that are up get trials, so that none waits for ever. A worker for which there is
    nothing to do is given back after a moment, so that its node can go; one that a service waits for is given back when
    its trial has ended.

    Args:
        hiring: what each worker is hired with.
        places: tells how many there may be; asked now and then.
    """

    def __init__(self, hiring: Hiring, places: Roomy) -> None:
        # No GPU is not the same as 0 of them: Ray then leaves out the processes that it keeps ready.
        self._options = {"num_cpus": hiring.cpus, "num_gpus": hiring.gpus or None, "max_restarts": 0}
        self._hiring = hiring
        self._places = places
        self._calls: dict[Any, _Seat] = {}
        self._idle: list[_Seat] = []
        self._waiting: dict[int, _Seat] = {}
        self._failed_starts = 0
        self._share = places.first()
        self._looked = time.monotonic()

    def aim(self, waiting: int) -> str:
        """Hire and give back workers, so that there are as many as jobs wait for and as there is room for."""
        if time.monotonic() - self._looked > LOOK_EVERY_S:
            self._looked = time.monotonic()
            with suppress(ClusterError):  # the head is away for a moment: what was known holds
                self._share = self._places.look(sum(seat.up or _placed(seat) for seat in self._seats))
        count = self._count()
        move = next_move(count, self._share, waiting, self._hiring.most)
        for seat in self._idle[: move.drop_idle]:
            self._give_back(seat)
        for apart, drop in ((True, move.drop_apart), (False, move.drop_starting)):
            for seat in self._pending(apart)[:drop]:
                self._give_back(seat)
        for number in range(move.hire + move.hire_apart):
            self._hire(apart=number >= move.hire)
        pending = len(self._pending(True)) + len(self._pending(False))
        return told(count.busy, count.busy + waiting, self._share, pending)

    def free(self) -> int:
        """Return how many workers are up, idle and not to be given back."""
        count = self._count()
        return max(0, min(count.idle, allowed(count, self._share) - count.busy))

    def submit(self, job: Job) -> None:
        """Give a job to an idle worker."""
        seat = self._idle.pop()
        seat.number = job.number
        self._calls[seat.actor.step.remote(job, True)] = seat

    def answer(self, number: int, go_on: bool) -> None:
        """Answer the worker of a trial."""
        seat = self._waiting.pop(number)
        self._calls[seat.actor.step.remote(None, go_on)] = seat

    def wait(self, seconds: float) -> Sequence[News]:
        """Return what the workers tell."""
        calls = list(self._calls)
        if not calls:
            time.sleep(seconds)
            return ()
        done, _ = ray.wait(calls, num_returns=1, timeout=seconds)
        if done and len(calls) > 1:
            done, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
        found = [self._heard(call) for call in done]
        return [news for news in found if news is not None]

    def close(self) -> None:
        """End all workers."""
        for seat in self._seats:
            ray.kill(seat.actor)
        self._calls.clear()
        self._idle.clear()
        self._waiting.clear()

    @property
    def _seats(self) -> list[_Seat]:
        return [*self._calls.values(), *self._idle, *self._waiting.values()]

    def _pending(self, apart: bool) -> list[_Seat]:
        """Return those who are not up, the last hired first."""
        return [seat for seat in self._calls.values() if not seat.up and seat.apart == apart][::-1]

    def _count(self) -> Count:
        seats, now, starting = self._seats, time.monotonic(), self._pending(False)
        return Count(
            busy=sum(seat.number is not None for seat in seats),
            idle=len(self._idle),
            bored=sum(now - seat.since > BORED_S for seat in self._idle),
            starting=len(starting),
            unplaced=sum(not seat.placed for seat in starting),
            apart=len(self._pending(True)),
        )

    def _hire(self, *, apart: bool) -> None:
        labels = dict(self._hiring.labels)
        if apart:
            labels |= elsewhere()
        options = self._options | ({"label_selector": labels} if labels else {})
        worker = ray.remote(Worker).options(**options)
        actor = worker.remote(self._hiring.builder, tuple(sys.path), self._hiring.low)
        self._calls[actor.ready.remote()] = _Seat(actor, apart, time.monotonic())

    def _give_back(self, seat: _Seat) -> None:
        self._calls = {call: each for call, each in self._calls.items() if each is not seat}
        self._idle = [each for each in self._idle if each is not seat]
        ray.kill(seat.actor)

    def _heard(self, call: Any) -> News | None:
        seat = self._calls.pop(call)
        try:
            news = ray.get(call)
        except RayError as error:
            return self._died(seat, error)
        if not seat.up:
            seat.up, seat.placed, self._failed_starts = True, True, 0
            self._rest(seat)
            return None
        assert isinstance(news, News)
        if news.outcome is not None:
            seat.number = None
            self._rest(seat)
        else:
            self._waiting[news.number] = seat
        return news

    def _rest(self, seat: _Seat) -> None:
        seat.since = time.monotonic()
        self._idle.append(seat)

    def _died(self, seat: _Seat, error: RayError) -> News | None:
        if not seat.up and not _with_its_node(error):
            self._failed_starts += 1
            if self._failed_starts >= START_ATTEMPTS:
                raise ClusterError(f"no worker for trials could start: {_last_line(error)}") from error
        ray.kill(seat.actor)
        return None if seat.number is None else News(seat.number, lost=_why(error))


def _placed(seat: _Seat) -> bool:
    """Tell whether a worker that is not up has a process already, which holds what it needs of its node."""
    from ray._private.state import actors  # the public State API needs a dashboard

    if not seat.placed:
        address = actors(seat.actor._actor_id.hex()).get("Address") or {}
        seat.placed = bool(address.get("Port"))
    return seat.placed


def _with_its_node(error: RayError) -> bool:
    """Tell whether a worker that did not come up had a node that was lost: then nothing is wrong with the worker."""
    text = str(error)
    return "node" in text and ("died" in text or "dead" in text) and "creation task" not in text


def _why(error: RayError) -> str:
    text = str(error)
    if "running low on memory" in text or "memory pressure" in text:
        return "its worker process was ended because its node ran out of memory"
    if isinstance(error, RayActorError):
        return "its worker process was killed or its node was lost"
    return f"its worker failed: {_last_line(error)}"


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
