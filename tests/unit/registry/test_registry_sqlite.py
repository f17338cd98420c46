"""The database file is made once, whole, and in WAL mode."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from rayline.registry.sqlite import ensured


def make_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (id)")
        connection.commit()


def test_it_is_made_once_however_many_ask_at_the_same_time(tmp_path: Path) -> None:
    made, database = [], tmp_path / "new" / "mlflow.db"
    start = threading.Barrier(8)

    def create(path: Path) -> None:
        made.append(path)
        make_table(path)

    def ask() -> None:
        start.wait()
        ensured(database, create)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_one_that_died_half_way_is_made_anew(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"

    def die(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensured(database, die)
    assert not database.exists()
    ensured(database, make_table)

    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_one_that_exists_is_left_alone(tmp_path: Path) -> None:
    ensured(tmp_path / "mlflow.db", make_table)
    before = (tmp_path / "mlflow.db").read_bytes()

    ensured(tmp_path / "mlflow.db", never)

    assert (tmp_path / "mlflow.db").read_bytes() == before


def never(path: Path) -> None:
    raise AssertionError(f"{path} was made again")


WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO runs VALUES (1)")
connection.commit()
connection.close()
"""


def test_what_another_process_writes_is_seen_after_the_database_was_asked_for_again(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    ensured(database, make_table)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)
        ensured(database, never)

        for written in (1, 2):
            subprocess.run([sys.executable, "-c", WRITE, str(database)], check=True)
            assert connection.execute("SELECT count(*) FROM runs").fetchone() == (written,)


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"notes of mine")

    with pytest.raises(OSError, match="is no SQLite database"):
        ensured(tmp_path / "mlflow.db", make_table)

    assert (tmp_path / "mlflow.db").read_bytes() == b"notes of mine"
