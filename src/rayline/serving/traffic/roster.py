"""Who the replicas of a service are: those that were heard, those that are dead, and those still to come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SILENT_SECONDS = 0.5
FORGET_SECONDS = 15.0
RETURN_SECONDS = 10.0
GONE_KEPT = 32

Json = dict[str, Any]


@dataclass(slots=True)
class Replica:
    """One replica, as it was last heard."""

    report: Json
    actor: Any
    heard: float
    polling: bool = False
    gone: bool = False
    mail: list[Json] = field(default_factory=list)


class Roster:
    """The replicas that the live state knows."""

    def __init__(self, expected: Mapping[str, str], keep: Callable[[Mapping[str, str]], None]) -> None:
        """Wait for those that were alive before a restart.

        Args:
            expected: their names, each with its actor's name.
            keep: writes down the same of those that are alive, before anybody may rely on one that is new.
        """
        self._replicas: dict[str, Replica] = {}
        self._expected = dict(expected)
        self._expected_until = time.monotonic() + RETURN_SECONDS
        self._keep = keep

    def hear(self, report: Json, actor: Any) -> Replica:
        """Note what a replica reports."""
        name = report["replica"]
        self._expected.pop(name, None)
        known = self._replicas.get(name)
        replica = self._replicas[name] = known or Replica(report, actor, time.monotonic())
        returned = known is None or known.gone
        replica.report, replica.heard, replica.gone = report, time.monotonic(), False
        replica.actor = actor or replica.actor
        if returned:
            self._forget()
            self._write()
        return replica

    def complete(self) -> bool:
        """Tell whether all that were alive before a restart were heard, or are dead; an empty room proves nothing."""
        return not self._expected or time.monotonic() >= self._expected_until

    def all(self) -> dict[str, Replica]:
        """Return every replica that is remembered, the dead ones of late included."""
        return self._replicas

    def live(self) -> dict[str, Replica]:
        """Return those that are not dead."""
        return {name: each for name, each in self._replicas.items() if not each.gone}

    async def bury_dead(self) -> None:
        """Find out which silent replicas are dead: a slow one is waited for, a dead one is not."""
        now = time.monotonic()
        buried = False
        for replica in list(self.live().values()):
            if not replica.polling and now - replica.heard >= SILENT_SECONDS:
                replica.gone = now - replica.heard > FORGET_SECONDS or await _is_dead(replica.actor)
                buried = buried or replica.gone
        for name, actor in list(self._expected.items()):
            unknown = bool(actor) and await asyncio.to_thread(_is_unknown, actor)
            if unknown:
                self._expected.pop(name, None)
        if buried:
            self._write()

    def _write(self) -> None:
        alive = {name: str(each.report.get("actor", "")) for name, each in self.live().items()}
        self._keep({**self._expected, **alive})

    def _forget(self) -> None:
        """Keep the counts of the latest dead replicas, so that a window over their death loses nothing."""
        gone = [name for name, each in self._replicas.items() if each.gone]
        for name in gone[: max(0, len(gone) - GONE_KEPT)]:
            del self._replicas[name]


def _is_unknown(actor: str) -> bool:
    """Tell whether Ray knows no actor of this name any more."""
    import ray

    if not ray.is_initialized():
        return False
    try:
        ray.get_actor(actor, namespace="serve")
    except ValueError:
        return True
    except ray.exceptions.RayError:
        return False
    return False


async def _is_dead(actor: Any) -> bool:
    if actor is None:
        return False
    from ray.exceptions import ActorDiedError, RayActorError

    try:
        await asyncio.wait_for(actor.__ray_ready__.remote(), 1.0)
    except ActorDiedError:
        return True
    except (RayActorError, TimeoutError):
        return False
    return False
