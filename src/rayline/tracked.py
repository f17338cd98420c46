"""One MLflow run throughout: what a training's, or a Study's, folder remembers, so that the same command goes on in it.

``run.json`` (``study.json``) names the run by our own key before anything is written to MLflow, and by MLflow's id once
that is known. A folder whose run came to nothing, because the training diverged, is cleared for a new one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from rayline import storage
from rayline.errors import TrackingError, TrainingFailed
from rayline.registry.spool import Spool, Tracking
from rayline.registry.spool_delivery import REST
from rayline.registry.spool_records import is_key
from rayline.registry.store import RunStatus, now_ms

RUN, STUDY = "run.json", "study.json"
RUN_FIELDS = ("run_id", "study_run_id")  # of a step's result
KILLED_SECONDS = 3.0  # who stopped a training does not want to wait for MLflow


@dataclass(frozen=True, slots=True)
class Identity:
    """Which run a folder belongs to.

    Attributes:
        key: ours, unique for ever: the name of its queue.
        began: when it was opened first, Unix milliseconds.
        status: of the last attempt, as the driver saw it end; ``RUNNING`` where it was killed.
        final: nothing goes on from here: the training diverged.
        run_id: MLflow's; None until it is known.
    """

    key: str
    began: int
    status: RunStatus = "RUNNING"
    final: bool = False
    run_id: str | None = None


@dataclass
class Tracked:
    """An open run.

    Attributes:
        resumed: an earlier attempt of it was begun.
    """

    identity: Identity
    spool: Spool
    resumed: bool
    _file: Path

    @property
    def key(self) -> str:
        """The run's name in the queue."""
        return self.identity.key

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; its key while that is not known."""
        return self.identity.run_id or self.spool.run_id(self.key, 0.0)

    def keep(self, **changes: Any) -> None:
        """Write down what has changed."""
        self.identity = replace(self.identity, **changes)
        _write(self._file, self.identity)


def identity_of(file: Path) -> Identity | None:
    """Return which run a folder belongs to; None where it belongs to none yet, or that cannot be read."""
    try:
        return Identity(**json.loads(storage.refresh(file).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


@contextmanager
def tracked(
    tracking: Tracking, file: Path, open_in: Callable[[Spool, Identity], None], *, fresh: bool = False
) -> Iterator[Tracked]:
    """Open the run of a training, or go on with it; it ends FINISHED, FAILED or, where it was stopped, KILLED.

    Nothing here waits for MLflow but the end, and that for a bounded time.

    Args:
        tracking: where it is written to.
        file: ``run.json`` or ``study.json`` in the folder of the training, which a fresh start clears.
        open_in: writes what a run begins with; it is written again where a run goes on, and leaves the same result.
        fresh: begin a new run whatever there is.
    """
    before = identity_of(file)
    if fresh or before is None or before.final:
        _give_up(tracking, before)
        shutil.rmtree(file.parent, ignore_errors=True)
        storage.forget(file.parent)
        before = None
    name = f"{file.stem}-{file.parent.name}-{uuid4().hex[:8]}"
    identity = before or Identity(name, now_ms())
    _write(file, replace(identity, status="RUNNING"))
    rest = REST if file.name == RUN else 0.0  # the trials of a Study run in processes of their own
    spool = tracking.open(identity.key, resumed=before is not None, rest=rest)
    run = Tracked(identity, spool, before is not None, file)
    try:
        open_in(spool, identity)
        if run.resumed:
            spool.finish_run(run.key, "RUNNING")
        with terminated_as_exit():
            yield run
    except BaseException as error:
        diverged = isinstance(error, TrainingFailed) and file.name == RUN
        _end(run, "FAILED" if isinstance(error, Exception) else "KILLED", final=diverged)
        raise
    _end(run, "FINISHED")


def _end(run: Tracked, status: RunStatus, *, final: bool = False) -> None:
    run.spool.finish_run(run.key, status)
    run.keep(status=status, final=final)
    done = run.spool.drain(KILLED_SECONDS if status == "KILLED" else None)
    known = run.spool.run_id(run.key, 0.0)
    if known != run.key:
        run.keep(run_id=known)
    run.spool.close(0.0, over=status == "FINISHED" or final)
    if done:
        with suppress(TrackingError):  # the next command sees to it
            run.spool.tracking.deliver_left()


def _give_up(tracking: Tracking, before: Identity | None) -> None:
    """Close in MLflow the run of a killed driver that nobody goes on with."""
    if before is not None and before.status == "RUNNING":
        spool = tracking.open(before.key, resumed=True)
        spool.finish_run(before.key, "KILLED")
        spool.leave()


def _write(file: Path, identity: Identity) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(identity), indent=2), encoding="utf-8")
    os.replace(draft, file)
    storage.keep(file)


@contextmanager
def terminated_as_exit() -> Iterator[None]:
    """Let SIGTERM end the process as Ctrl-C does, by an exception, where nobody else handles it."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not mine:
        yield
        return

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def settled(tracking: Tracking, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's result with MLflow's ids in place of the keys that have been delivered since."""
    fields = {name: result[name] for name in RUN_FIELDS if name in result}
    return {**result, **{name: tracking.run_id(run) or run for name, run in fields.items()}}


def unsettled(result: Mapping[str, Any]) -> bool:
    """Tell whether a step's result names a run that MLflow has not taken yet."""
    return any(is_key(result.get(name) or "") for name in RUN_FIELDS)
