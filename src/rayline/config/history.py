"""``features.join``, ``features.windows`` and ``features.online``: what is known of a key before a row's time."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from rayline.config.section import Positive, Section

UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")

FEAST = "feast:"

Duration = Annotated[str, Meta(pattern=rf"^{_DURATION.pattern}$")]
"""A span of time, such as ``30d``, ``12h`` or ``15m``: milliseconds, seconds, minutes, hours, days or weeks."""

Aggregate = Literal["mean", "sum", "min", "max", "count", "std", "last"]


def microseconds(duration: str) -> int:
    """Return a ``Duration`` in microseconds. Raises ``ValueError`` where it is none."""
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise ValueError(f"'{duration}' is no duration: write a number and ms, s, m, h, d or w, such as 30d")
    return round(float(found[1]) * UNITS[found[2]])


def feast_place(source: str) -> tuple[str, str] | None:
    """Return folder and name of a ``feast:FOLDER#NAME``, None for another source. Raises ``ValueError``."""
    if not source.startswith(FEAST):
        return None
    folder, _, name = source.removeprefix(FEAST).rpartition("#")
    if not folder or not name:
        raise ValueError(f"'{source}' names no feature view: write feast:FOLDER#VIEW, or #SERVICE for all of its views")
    return folder, name


class JoinConfig(Section, frozen=True, kw_only=True):
    """One feature table, joined to the rows of the data as of their time.

    A row gets the latest feature row with the same keys whose ``time`` is not after the row's ``at``; of several with
    the same time, the last in the source. Where there is none, the columns are missing.

    Attributes:
        name: what the table is called, here and in the online store.
        source, format: where it is, as in ``data``. ``feast:FOLDER#NAME`` is a feature view, or all views of a feature
            service, of the Feast repository in that folder: keys, time and time-to-live are then Feast's own.
        keys: columns that identify what a feature row is about; called alike in the data.
        time: its event time, and ``at``: the time of a row of the data. Dates, times, ISO 8601 texts, or numbers of
            seconds.
        ttl: a feature row that is as old as this, or older, is not used any more.
        columns: what to take; none means all but keys and time.
        prefix: stands before the columns' names in the joined data.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
    source: str | None = None
    format: Literal["auto", "csv", "parquet", "jsonl"] = "auto"
    keys: tuple[str, ...] = ()
    time: str | None = None
    at: str
    ttl: Duration | None = None
    columns: tuple[str, ...] = ()
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.source is None:
            raise ValueError(f"join '{self.name}' needs a source")
        if feast_place(self.source) is not None:
            if self.format != "auto":
                raise ValueError(f"join '{self.name}': 'format' is for files; Feast knows its own")
            return
        if not self.keys or self.time is None:
            raise ValueError(f"join '{self.name}' needs keys and the time column of its source")


class WindowConfig(Section, frozen=True, kw_only=True):
    """One number made of the strictly earlier rows with the same keys; rows of one instant do not see each other.

    Attributes:
        of: the column that is looked at; it must be a number or a boolean. ``count`` alone needs none: it counts rows.
        by: the key columns.
        time: the column that orders the rows.
        lag: the value so many rows before.
        rows: the last so many rows, or ``window``: the rows from so long before, inclusive, to the row's own time,
            exclusive. ``aggregate`` says what is made of them; missing values are left out.
    """

    of: str | None = None
    by: Annotated[tuple[str, ...], Meta(min_length=1)]
    time: str
    lag: Positive | None = None
    rows: Positive | None = None
    window: Duration | None = None
    aggregate: Aggregate | None = None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.lag, self.rows, self.window)) != 1:
            raise ValueError("a window needs exactly one of 'lag', 'rows' and 'window'")
        if (self.lag is None) != (self.aggregate is not None):
            raise ValueError("'rows' and 'window' need an 'aggregate', and 'lag' has none")
        if self.of is None and self.aggregate != "count":
            raise ValueError("'of' names the column to look at; only 'aggregate: count' does without")


class OnlineConfig(Section, frozen=True, kw_only=True):
    """Where the latest rows are kept for a live service: ``embedded`` under ``storage``, or a ``redis://`` address.

    The embedded store is a memory-mapped file: it serves the machine that it lies on. Services on several machines need
    Redis.

    The variable ``RAYLINE_ONLINE_STORE`` wins over it, so that an address with a password is written nowhere.
    """

    store: str = "embedded"

    def __post_init__(self) -> None:
        if self.store == "embedded":
            return
        parts = urlsplit(self.store)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(f"the online store is 'embedded' or a redis:// address, not '{self.store}'")
        if parts.password:
            raise ValueError("an address with a password belongs in the variable RAYLINE_ONLINE_STORE, not here")
