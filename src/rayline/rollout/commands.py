"""The verbs of a rollout as functions: what the command line and the flow call.

``start``, ``promote``, ``pause``, ``resume``, ``abort``, ``retry``, ``undo`` need a Ray connection and return as soon
as the decision is on disk. ``status``, ``last``, ``history``, ``arms``, ``watch`` and ``wait`` read the storage folder
alone, while the controller writes to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.config import RolloutConfig
from rayline.errors import NotFoundError, ServiceError, suggestion
from rayline.rollout.analysis.glance import Glance
from rayline.rollout.controller import call, new_id
from rayline.rollout.engine import Order
from rayline.rollout.plans.plan import Plan
from rayline.rollout.ports import LIVE, Ports
from rayline.rollout.state import RolloutState
from rayline.rollout.storage.files import RolloutStore, rollout_files
from rayline.rollout.storage.storage import Signs
from rayline.serving.names import service_folder
from rayline.storage import exists, files_below

if TYPE_CHECKING:
    from rayline.serving.traffic.plan import LiveVersion

POLL_S = 0.1
SILENT_S = 30.0
NOTES_S = 15.0


def start(
    name: str,
    *,
    storage: str | Path,
    rollout: RolloutConfig,
    version: LiveVersion,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    note: str = "",
    ports: Ports = LIVE,
) -> RolloutState:
    """Begin to move a service's traffic to a version.

    Args:
        name: the service, and the registered model.
        storage: the project's state folder.
        rollout: the steps.
        version: the canary, with its bundle where every replica can read it.
        tracking_uri: of MLflow; None is the one under ``storage``.
        experiment: that the rollout's MLflow run belongs to; default: ``name``.
        note: what its first decision should say besides: who let the version past its gates, and why.
        ports: how the controller reaches service and store, where it is not running yet.

    Raises:
        ConfigError: the plan cannot work.
        RolloutRefused: another rollout is under way, or the version has the traffic already.
        NotFoundError: the service does not run.
    """
    plan = Plan.from_config(rollout, ports.task(version))
    order = Order(new_id(), "rollout", plan, version, tracking_uri, experiment or name, note, rollout.hooks)
    return call(name, str(storage), ports, "start", order)


def undo(name: str, *, storage: str | Path, to: int | None = None, ports: Ports = LIVE) -> RolloutState:
    """Begin to return all traffic, at once, to what was stable before the last finished rollout.

    Args:
        name: the service.
        storage: the project's state folder.
        to: the number of an earlier stable version; None for the one before this.
        ports: as of ``start``.

    Raises:
        RolloutRefused: a rollout is under way (abort that one), or there is nothing to return to.
        NotFoundError: there was no rollout, or the service does not run.
    """
    state = status(name, storage=storage)
    order = Order(new_id(), "undo", None, None, state.tracking_uri, state.experiment, hooks=state.hooks, to=to)
    return call(name, str(storage), ports, "start", order)


def retry(name: str, *, storage: str | Path, ports: Ports = LIVE) -> RolloutState:
    """Begin the last rollout anew, from its first step, after its canary was taken back.

    Raises:
        RolloutRefused: it was not taken back.
        NotFoundError: there was no rollout, or the service does not run.
    """
    state = status(name, storage=storage)
    order = Order(new_id(), "retry", None, None, state.tracking_uri, state.experiment, hooks=state.hooks)
    return call(name, str(storage), ports, "start", order)


def promote(name: str, *, storage: str | Path, full: bool = False, note: str = "", ports: Ports = LIVE) -> RolloutState:
    """Go on from a pause; with ``full``, skip every step that is left. Raises ``RolloutRefused``.

    ``note`` is what the decision should say besides.
    """
    return _ask(name, storage, ports, "promote", full=full, note=note)


def pause(name: str, *, storage: str | Path, ports: Ports = LIVE) -> RolloutState:
    """Hold a rollout where it is. Raises ``RolloutRefused``."""
    return _ask(name, storage, ports, "pause")


def resume(name: str, *, storage: str | Path, ports: Ports = LIVE) -> RolloutState:
    """Go on after a pause by hand, or measure again after an analysis without a verdict. Raises ``RolloutRefused``."""
    return _ask(name, storage, ports, "resume")


def abort(name: str, *, storage: str | Path, reason: str = "aborted by a person", ports: Ports = LIVE) -> RolloutState:
    """Return all traffic to the stable version at once. Raises ``RolloutRefused`` where the rollout has ended."""
    return _ask(name, storage, ports, "abort", reason=reason)


def history(name: str, *, storage: str | Path) -> tuple[RolloutState, ...]:
    """Return all rollouts of a service, the latest first. Raises ``NotFoundError`` where there was none."""
    status(name, storage=storage)
    return rollout_files(storage, name).history()


def arms(name: str, *, storage: str | Path) -> Glance | None:
    """Return what the controller saw of both versions last; None where it has not looked at this rollout yet."""
    files = rollout_files(storage, name)
    state, seen = files.read(), Glance.from_text(files.glance())
    return seen if state is not None and seen is not None and seen.rollout == state.id else None


def last(name: str, *, storage: str | Path) -> RolloutState | None:
    """Return the rollout under way or the last one; None where there was none."""
    return rollout_files(storage, name).read()


def status(name: str, *, storage: str | Path) -> RolloutState:
    """Return the rollout under way or the last one. Raises ``NotFoundError`` where there was none."""
    state = last(name, storage=storage)
    if state is None:
        folder = service_folder(storage, name)
        if not folder.is_dir() and not exists(folder / "plan.json"):
            known = {path.relative_to(folder.parent).parts[0] for path in files_below(folder.parent)}
            raise NotFoundError(f"service '{name}' was never deployed here. {suggestion(name, known)}")
        raise NotFoundError(f"service '{name}' has no rollout. `rayline rollout start {name}` begins one.")
    return state


def watch(name: str, *, storage: str | Path) -> Iterator[RolloutState]:
    """Yield the rollout now and after each change, until it has ended or waits for a person.

    One that has ended is followed until the tracking store has its last word too, for ``NOTES_S`` seconds at most.

    Raises:
        NotFoundError: there was none.
        ServiceError: its controller gave no sign of life for ``SILENT_S`` seconds.
    """
    return _changes(name, _Seen.now(name, storage), None)


def wait(name: str, *, storage: str | Path, timeout: float | None = None) -> RolloutState:
    """Return the rollout once it has ended or waits for a person.

    Raises:
        NotFoundError: there was none.
        ServiceError: ``timeout`` seconds have passed, or its controller gives no sign of life.
    """
    *_, state = _changes(name, _Seen.now(name, storage), timeout)
    return state


@dataclass(frozen=True, slots=True)
class _Seen:
    """A rollout as it was read, and the signs from just before: what is written in between shows as a change."""

    files: RolloutStore
    signs: Signs
    state: RolloutState

    @classmethod
    def now(cls, name: str, storage: str | Path) -> _Seen:
        files = rollout_files(storage, name)
        signs = files.signs()
        return cls(files, signs, status(name, storage=storage))


def _changes(name: str, seen: _Seen, timeout: float | None) -> Iterator[RolloutState]:
    began = heard = time.monotonic()
    ended: float | None = None
    files, signs, state = seen.files, seen.signs, seen.state
    yield state
    while not state.waiting:
        now = time.monotonic()
        if state.settled:
            ended = ended or now
            if not state.notes or now - ended > NOTES_S:
                return
        elif now - heard > SILENT_S:
            # A shared file system may show old times for a while; what the file says decides.
            fresh_state = status(name, storage=files.storage)
            if fresh_state != state:
                heard, state = now, fresh_state
                yield state
                continue
            raise ServiceError(
                f"the controller of the rollout of '{name}' has given no sign of life for {SILENT_S:.0f} s. Any verb "
                f"but status brings it back, for instance `rayline rollout pause {name}`."
            )
        elif timeout is not None and now - began > timeout:
            raise ServiceError(f"the rollout of '{name}' is still going on after {timeout:.0f} s: {state.place}.")
        time.sleep(POLL_S)
        fresh = files.signs()
        if fresh != signs:
            heard = time.monotonic()
        if fresh[0] != signs[0]:
            state = status(name, storage=files.storage)
            yield state
        signs = fresh


def _ask(name: str, storage: str | Path, ports: Ports, verb: str, **details: Any) -> RolloutState:
    status(name, storage=storage)
    if verb != "pause":  # what would move traffic must not give a rollout up because the cluster began anew
        with suppress(ServiceError):
            ports.service(name, str(storage))
    return call(name, str(storage), ports, "ask", new_id(), verb, details)
