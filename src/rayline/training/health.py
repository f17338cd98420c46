"""What goes wrong around a training, and what it says: numbers that break, a loader that stalls, no memory, no disk."""

from __future__ import annotations

import errno
import math
import queue
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rayline.errors import EnvironmentFailed, TrainingFailed

T = TypeVar("T")

AHEAD = 2
"""Batches that a streamed feed is fetched ahead of the step that takes them."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_finite(value: float, name: str, where: str, rate: float) -> None:
    """Refuse NaN and infinity. Raises ``TrainingFailed``, which names where it was, and the learning rate."""
    if not math.isfinite(value):
        raise TrainingFailed(
            f"{name} is {value} at {where}, with learning rate {rate:g}. Lower train.learning_rate, clip gradients "
            "with train.clip_norm, or look for extreme values in the data with `rayline validate`."
        )


def watched(batches: Iterable[T], seconds: float, epoch: int) -> Iterator[T]:
    """Give batches that another thread fetches, two ahead, and raise where none comes for so long.

    The one that waits is the training's own thread, so that the error is raised there whatever the loader hangs in.

    Raises:
        EnvironmentFailed: the loader has stalled. What the loader itself raises is raised as it is.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=AHEAD)
    over = threading.Event()
    fetching = threading.Thread(target=_fetch, args=(batches, ready, over), name=f"feed-{epoch}", daemon=True)
    fetching.start()
    try:
        step = 0
        while True:
            try:
                kind, item = ready.get(timeout=seconds)
            except queue.Empty:
                raise EnvironmentFailed(
                    f"the loader gave no batch for {seconds:g} s (train.stall_seconds) at epoch {epoch}, step {step}. "
                    "Look whether its source still answers and whether the cluster has CPUs left to read it, beside "
                    "the training's workers. Where it is only slow, raise train.stall_seconds."
                ) from None
            if kind == "batch":
                yield item
                step += 1
            elif kind == "error":
                raise item
            else:
                return
    finally:
        over.set()


def _fetch(batches: Iterable[Any], ready: queue.Queue[tuple[str, Any]], over: threading.Event) -> None:
    try:
        for batch in batches:
            if not _put(ready, ("batch", batch), over):
                return
        _put(ready, ("end", None), over)
    except BaseException as error:  # noqa: BLE001 - raised in the training's own thread
        _put(ready, ("error", error), over)


def _put(ready: queue.Queue[tuple[str, Any]], item: tuple[str, Any], over: threading.Event) -> bool:
    """Hand over, unless nobody takes any more."""
    while not over.is_set():
        try:
            ready.put(item, timeout=0.2)
        except queue.Full:
            continue
        return True
    return False


@dataclass
class Position:
    """How far a training is, for what its errors say: the epoch, from 1, and the step in it, from 0."""

    epoch: int = 0
    step: int = 0


@contextmanager
def explained(at: Position, batch_size: int) -> Iterator[None]:
    """Say in plain words where memory ran out, or the compiler failed, and what to change.

    Raises:
        TrainingFailed: the process or the GPU has no memory left.
        EnvironmentFailed: ``torch.compile`` cannot compile here.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if out_of_memory(error):
            where = f"epoch {at.epoch}, step {at.step}" if at.epoch else "the start"
            first = (str(error).splitlines() or [""])[0][:200]
            raise TrainingFailed(
                f"out of memory at {where}, with batches of {batch_size} rows ({type(error).__name__}: {first}). "
                "Lower train.batch_size and raise train.accumulate by as much, which trains the same; or take a "
                "smaller model, or train.precision: bf16 on a GPU."
            ) from error
        if _of_compiler(error):
            first = str(error).strip().splitlines()[0][:200]
            raise EnvironmentFailed(
                f"train.compile: torch.compile failed ({type(error).__name__}: {first}). "
                "Set train.compile: false, which trains the same model, only slower."
            ) from error
        raise


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out: Python's own, or one of torch's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


def disk_full(error: BaseException) -> bool:
    """Return whether an error says that a disk, a quota or a limit is full; safetensors tells it only in words."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return type(error).__name__ == "SafetensorError" and any(f"os error {code}" in str(error) for code in FULL)


def no_room(error: BaseException, folder: Path, needed: int | None) -> EnvironmentFailed:
    """Return what is said of a full disk.

    Args:
        error: what was raised while writing.
        folder: the training's.
        needed: bytes of what was to be written; None where nobody knows.
    """
    free = shutil.disk_usage(folder).free
    needs = f"needs {_size(needed)}" if needed else "did not fit"
    return EnvironmentFailed(
        f"no room to write a checkpoint in '{folder}': it {needs} and {_size(free)} are free there ({error}). The "
        "checkpoints before it are whole. Free some space, lower train.checkpoint.num_to_keep, or let storage be a "
        "folder on a larger disk; the same command then goes on from the last checkpoint."
    )


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _of_compiler(error: BaseException) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
