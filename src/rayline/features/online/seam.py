"""The seam to an online store, and what every store keeps of a row.

A key is a tuple of scalars. 7, 7.0 and ``"7"`` are one key, as they are for a join; ``"07"`` is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Key = tuple[Any, ...]
"""One scalar per key column: text, whole number, boolean, date or time."""

Value = None | bool | int | float | str | list[Any]
"""What a column of a row may hold, as JSON has it; dates and times are ISO 8601 texts."""


@dataclass(frozen=True, slots=True)
class Found:
    """The latest row of one key.

    Attributes:
        time: its event time, in microseconds since 1970-01-01 UTC.
        values: by column.
    """

    time: int
    values: Mapping[str, Value]


class OnlineStore(Protocol):
    """The latest row of each key of each feature table. Safe to use from several threads and processes at once."""

    def put(
        self,
        table: str,
        columns: Sequence[str],
        keys: Sequence[Key],
        times: Sequence[int],
        rows: Sequence[Sequence[Value]],
    ) -> int:
        """Keep rows; of one key the newest event time stays, and of equal times what was put last.

        Args:
            table: the feature table's name.
            columns: the names of a row's values.
            keys, times, rows: one of each per row; times in microseconds since 1970-01-01 UTC.

        Returns:
            How many rows were kept, counting a key once for each time that it was written.

        Raises:
            ServiceError: the store cannot be reached.
            EnvironmentFailed: it is full or broken.
        """

    def get(self, table: str, keys: Sequence[Key]) -> list[Found | None]:
        """Return the latest row of each key, in one round trip; None where there is none. Raises ``ServiceError``."""

    def size(self, table: str) -> int:
        """Return how many keys a table has; 0 where it is unknown. Raises ``ServiceError``."""

    def close(self) -> None:
        """Let go of files and connections. A second call does nothing."""
