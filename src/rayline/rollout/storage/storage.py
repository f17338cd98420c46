"""The rollouts of one service on disk: one SQLite file, ``rollout.db``, in the service's folder.

Any process may read it while the controller writes. A controller takes a fencing number first, and each of its writes
checks in the same transaction that nobody has taken a higher one and that the state is still the one it wrote last: a
controller that was thought dead cannot write over what its successor decided. A decision is flushed to disk before
anybody acts on it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayline.errors import ServiceError, StaleController
from rayline.rollout.failpoints import reach
from rayline.rollout.state import RolloutState
from rayline.rollout.storage.earlier_files import Found, found, put_away
from rayline.rollout.storage.journal import mode_for
from rayline.serving.names import service_folder

FILE = "rollout.db"
LAYOUT = 1
BUSY_S = 10.0

ROLLOUTS = "CREATE TABLE rollouts (id TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID"
SERVICE = """CREATE TABLE service (
    one INTEGER PRIMARY KEY CHECK (one = 1), current TEXT, generation INTEGER NOT NULL, fence INTEGER NOT NULL,
    beats INTEGER NOT NULL, glance TEXT NOT NULL, clock REAL NOT NULL
)"""

Signs = tuple[int, int]
"""What changes when a rollout moves, and what changes while its controller is at work. Zeros before the first."""


@dataclass(slots=True)
class _Claim:
    """A controller's hold on the file.

    Attributes:
        fence: its number; every write needs that it is the highest.
        generation: of the state that it read or wrote last.
    """

    connection: sqlite3.Connection
    fence: int
    generation: int


class RolloutFiles:
    """The rollouts of one service. Whoever only reads needs no claim, and any number of processes may."""

    def __init__(self, storage: str | Path, service: str) -> None:
        """Name the file; nothing is read or made."""
        self.storage = str(storage)
        self.service = service
        self.path = service_folder(storage, service) / FILE
        self._lock = threading.RLock()
        self._claim: _Claim | None = None

    def another(self) -> RolloutFiles:
        """Return a handle of its own to the same file, without a claim."""
        return RolloutFiles(self.storage, self.service)

    @property
    def fence(self) -> int | None:
        """The fencing number that was taken last; None where this is a mere reader."""
        return None if self._claim is None else self._claim.fence

    def claim(self) -> int:
        """Take the next fencing number, from which on whoever holds a lower one cannot write. Returns it.

        Raises:
            ServiceError: the file is damaged, or cannot be written.
        """
        reach("claim.before")
        with self._lock, self._told():
            if self._claim is None:
                self._claim = _Claim(self._opened(), 0, 0)
            with _transaction(self._claim.connection) as cursor:
                cursor.execute("UPDATE service SET fence = fence + 1")
                fence, generation = cursor.execute("SELECT fence, generation FROM service").fetchone()
            self._claim.fence, self._claim.generation = fence, generation
        reach("claim.after")
        return int(fence)

    def check(self) -> None:
        """Make sure that nobody has taken over. Raises ``StaleController``.

        For those who cannot check a fencing number themselves, as MLflow: asked right before they are written to.
        """
        with self._lock, self._told():
            claim = self._claim
            if claim is not None:
                cursor = claim.connection.cursor()
                if cursor.execute("SELECT fence FROM service").fetchone()[0] != claim.fence:
                    raise self._stale(cursor, claim)

    def close(self) -> None:
        """Let go of the file. The fencing number stays taken."""
        with self._lock:
            if self._claim is not None:
                self._claim.connection.close()
                self._claim = None

    def read(self) -> RolloutState | None:
        """Return the current rollout, or None before the first. Raises ``ServiceError`` where it is damaged."""
        with self._reading() as connection:
            rows = _rows(connection, "SELECT state FROM rollouts WHERE id = (SELECT current FROM service)")
        return self._parsed(rows[0][0]) if rows else None

    def known(self, rollout: str) -> RolloutState | None:
        """Return the rollout of an id, or None. Raises ``ServiceError`` where it is damaged."""
        with self._reading() as connection:
            rows = _rows(connection, "SELECT state FROM rollouts WHERE id = ?", rollout)
        return self._parsed(rows[0][0]) if rows else None

    def clock(self) -> float:
        """Return what the clock of whoever wrote last showed, as Unix time; 0 before the first."""
        with self._reading() as connection:
            rows = _rows(connection, "SELECT clock FROM service")
        return float(rows[0][0]) if rows else 0.0

    def write(self, state: RolloutState, at: float = 0.0) -> None:
        """Make ``state`` the current rollout's, on disk when this returns; an earlier rollout is kept as it was.

        A writer without a claim takes one. ``at`` is what its clock shows.

        Raises:
            StaleController: another controller has taken over, and nothing was written.
            ServiceError: the disk refused.
        """
        with self._lock:
            if self._claim is None:
                self.claim()
            claim = self._claim
            assert claim is not None
            text = json.dumps(state.to_json())
            reach("write.before")
            with self._told(), _transaction(claim.connection) as cursor:
                cursor.execute(
                    "UPDATE service SET current = ?, clock = ?, generation = generation + 1 "
                    "WHERE fence = ? AND generation = ?",
                    (state.id, at, claim.fence, claim.generation),
                )
                if cursor.rowcount != 1:
                    raise self._stale(cursor, claim)
                cursor.execute(
                    "INSERT INTO rollouts VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state",
                    (state.id, text),
                )
            claim.generation += 1
            reach("write.after")

    def history(self) -> tuple[RolloutState, ...]:
        """Return all rollouts, the latest first. Raises ``ServiceError`` where one is damaged."""
        with self._reading() as connection:
            rows = _rows(
                connection,
                "SELECT state FROM rollouts ORDER BY id = (SELECT current FROM service) DESC, id DESC",
            )
        return tuple(self._parsed(text) for (text,) in rows)

    def beat(self, glance: str = "") -> None:
        """Leave a sign that the controller is at work, and what it saw of the service last.

        Raises:
            StaleController: another controller has taken over.
        """
        with self._lock, self._told(), closing(self._opened()) as connection:
            claim = self._claim
            if claim is None:
                return
            # Nothing is lost with a sign of life: it need not reach the disk.
            connection.execute("PRAGMA synchronous = NORMAL")
            with _transaction(connection) as cursor:
                cursor.execute(
                    "UPDATE service SET beats = beats + 1, glance = ? WHERE fence = ?", (glance, claim.fence)
                )
                if cursor.rowcount != 1:
                    raise self._stale(cursor, claim)

    def glance(self) -> str:
        """Return what the controller saw of the service last; empty where that is nothing."""
        with self._reading() as connection:
            rows = _rows(connection, "SELECT glance FROM service")
        return str(rows[0][0]) if rows else ""

    def signs(self) -> Signs:
        """Return what changes when a rollout moves, and when its controller is at work."""
        with self._reading() as connection:
            rows = _rows(connection, "SELECT generation, beats FROM service")
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def _stale(self, cursor: sqlite3.Cursor, claim: _Claim) -> StaleController:
        fence, generation = cursor.execute("SELECT fence, generation FROM service").fetchone()
        return StaleController(
            f"another controller has taken over the rollouts of '{self.service}': it holds number {fence}, this one "
            f"{claim.fence} (state {generation}, here {claim.generation}). This one stops, and changed nothing."
        )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """Give a connection to read with; None where there is no file, and nothing to make one from."""
        with self._told():
            if self._claim is not None:
                with self._lock:
                    yield self._claim.connection
            elif self._exists() or found(self.path.parent) is not None:
                with closing(self._opened()) as connection:
                    yield connection
            else:
                yield None

    def _exists(self) -> bool:
        return self.path.is_file()

    def _opened(self) -> sqlite3.Connection:
        """Open the file, made where there is none; what earlier versions left as JSON is taken over then."""
        connection = self._connected()
        try:
            connection.execute("PRAGMA synchronous = FULL")
            if connection.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:
                self._made(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connected(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA journal_mode = {mode_for(self.path.parent)}")
        return connection

    def _made(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection) as cursor:
            layout = cursor.execute("PRAGMA user_version").fetchone()[0]
            if layout == LAYOUT:  # another process was faster
                return
            if layout != 0:
                raise ServiceError(
                    f"'{self.path}' has layout {layout}; this version of Rayline reads {LAYOUT}. Use the later one."
                )
            cursor.execute(ROLLOUTS)
            cursor.execute(SERVICE)
            earlier = found(self.path.parent) or Found(None, ())
            current = None if earlier.current is None else earlier.current.id
            states = {each.id: each for each in (*earlier.before, *([earlier.current] if earlier.current else []))}
            # Replicas remember the highest number they were given: one that begins anew must lie above those of a
            # file that was taken away.
            first = int(time.time())
            cursor.execute("INSERT INTO service VALUES (1, ?, 1, ?, 0, '', 0.0)", (current, first))
            rows = [(each.id, json.dumps(each.to_json())) for each in states.values()]
            cursor.executemany("INSERT INTO rollouts VALUES (?, ?)", rows)
            cursor.execute(f"PRAGMA user_version = {LAYOUT}")
        put_away(self.path.parent)

    def _parsed(self, text: str) -> RolloutState:
        try:
            return RolloutState.from_json(json.loads(text))
        except (ValueError, ServiceError) as error:
            raise ServiceError(f"rollout '{self.path}': {error} Move the file away to begin anew.") from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell SQLite's own errors as ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise ServiceError(f"rollout '{self.path}' cannot be read or written: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise ServiceError(
                f"rollout '{self.path}' is damaged: {error}. Move the file away to begin anew."
            ) from error


def _rows(connection: sqlite3.Connection | None, query: str, *values: str) -> list[Any]:
    return [] if connection is None else connection.execute(query, values).fetchall()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    """Give a cursor; what it did is kept whole, or not at all."""
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    try:
        yield cursor
    except BaseException:
        cursor.execute("ROLLBACK")
        raise
    cursor.execute("COMMIT")
