"""All that a replica keeps of what it answers, put together: recorder, capture and shadow."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rayline.config import CaptureConfig
from rayline.serving.host import Host
from rayline.serving.records.capture import QUEUED_SHARE, Capture
from rayline.serving.records.capture_files import capture_folder
from rayline.serving.records.feedback import Answers
from rayline.serving.records.giving_way import EventLoopLoad
from rayline.serving.records.recorder import MOST_QUEUED, Recorder
from rayline.serving.records.shadow import Shadow
from rayline.serving.records.yardstick import read_yardstick


@dataclass(frozen=True, slots=True)
class Recording:
    """One replica's records. ``recorder.answered`` takes what is answered."""

    recorder: Recorder
    shadow: Shadow
    capture: Capture | None

    @classmethod
    def of(
        cls,
        service: str,
        storage: str,
        tag: str,
        host: Host,
        answers: Answers,
        *,
        slices: Sequence[str] = (),
        capture: CaptureConfig | None = None,
    ) -> Recording:
        """Return the records of a replica; ``start`` begins the work.

        Args:
            service: its name.
            storage: the project's state folder.
            tag: the replica's, 8 hex digits.
            host: its live versions.
            answers: what it remembers.
            slices: columns that counts are kept apart by; those that the yardstick does not know are left out.
            capture: what is written down; None for nothing.

        Raises:
            ServiceError: the service's yardstick is damaged.
        """
        wanted = capture if capture is not None and capture.enabled else None
        writer = Capture(capture_folder(storage, service), tag, wanted) if wanted is not None else None
        load = EventLoopLoad()
        shadow = Shadow(host, writer, load=load)
        yardstick = read_yardstick(storage, service)
        recorder = Recorder(
            host,
            answers,
            yardstick=yardstick,
            slices=[column for column in slices if column in yardstick.columns],
            capture=writer,
            shadow=shadow,
            most_queued=max(1, round(wanted.max_waiting * QUEUED_SHARE)) if wanted else MOST_QUEUED,
            load=load,
        )
        return cls(recorder, shadow, writer)

    def start(self) -> None:
        """Begin to work in the background.

        What waits here for a moment outlives Python's young collections and brings on full ones, each of which would
        look at all that was ever imported: that is put out of their sight first.
        """
        gc.collect()
        gc.freeze()
        for part in (self.capture, self.shadow, self.recorder):
            if part is not None:
                part.start()

    def settle(self) -> None:
        """Do now what waits, save writing files."""
        self.recorder.settle()
        self.shadow.settle()

    def stop(self) -> None:
        """Do what waits, write what is held, and end."""
        self.recorder.stop()
        self.shadow.stop()
        if self.capture is not None:
            self.capture.stop()

    def facts(self) -> dict[str, Any]:
        """Return, JSON-ready, ``left_out`` (rows that the recorder had no room for), and ``capture`` where it is on."""
        facts: dict[str, Any] = {"left_out": self.recorder.left_out}
        return facts | ({"capture": self.capture.facts()} if self.capture is not None else {})
