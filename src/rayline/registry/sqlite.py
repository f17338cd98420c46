"""MLflow's database as one SQLite file: made once, whole, and in WAL mode.

Several processes that make MLflow's tables in one file at the same time leave it broken for good, and so does one that
is killed half-way. The file is therefore made under another name and a lock, and renamed once it is complete.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

BUSY_SECONDS = 60  # how long a writer waits for another


def ensured(path: Path, create: Callable[[Path], None]) -> None:
    """Make the database at ``path`` unless it exists.

    Args:
        path: absolute path of the file.
        create: makes all tables in a file that does not exist yet, and lets go of it.

    Raises:
        OSError: the folder cannot be written, or the file is no database: MLflow would try ten times to open it.
    """
    if path.exists():
        _refuse_others(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_name(f"{path.name}.lock")):
        if path.exists():
            return
        making = path.with_name(f"{path.name}.making")
        making.unlink(missing_ok=True)
        create(making)
        with closing(sqlite3.connect(making, timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        os.rename(making, path)


def _refuse_others(path: Path) -> None:
    # SQLite itself must look: where a process closes a file that it opened otherwise, the system drops all locks that
    # it has on that file, those of its open connections too. The next writer elsewhere then takes itself for the last
    # user, deletes the log, and this process reads and writes in a deleted one from then on.
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked for long, or not to be written: MLflow's own words
                return
            raise OSError(f"'{path}' is no SQLite database") from error


def settle(connection: sqlite3.Connection) -> None:
    """Let each commit on a connection cost no wait for the disk.

    In WAL mode a killed process then loses nothing; a machine that loses its power may lose the last commits, whole,
    and the file stays sound.
    """
    connection.execute("PRAGMA synchronous=NORMAL")


def is_at(connection: sqlite3.Connection, path: Path) -> bool:
    """Tell whether a connection's database is the file at ``path``."""
    (_, _, file), *_ = connection.execute("PRAGMA database_list").fetchall()
    return bool(file) and os.path.realpath(file) == os.path.realpath(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock that the kernel drops if this process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
