"""Batches on their way to the device while it works on the one before."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rayline.training.feed import Batch


def ahead(batches: Iterator[Batch], device: str) -> Iterator[Batch]:
    """Give batches on ``device``. On a GPU each is copied, from pinned memory, while the one before is in use.

    On the CPU there is nothing to copy: the batches are passed on.
    """
    return _copied(batches, device) if device.startswith("cuda") else batches


def _copied(batches: Iterator[Batch], device: str) -> Iterator[Batch]:
    copying = torch.cuda.Stream(device)
    coming: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(copying):
            x, y = (each.pin_memory().to(device, non_blocking=True) for each in batch)
            copied = torch.cuda.Event()
            copied.record(copying)
        if coming is not None:
            yield _arrived(*coming)
        coming = (x, y), copied
    if coming is not None:
        yield _arrived(*coming)


def _arrived(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """Let the work that follows wait for the copy, and the memory live until that work is done."""
    working = torch.cuda.current_stream(batch[0].device)
    working.wait_event(copied)
    for each in batch:
        each.record_stream(working)
    return batch
