"""Which version a database of MLflow's is at, and how far that is from the one that this MLflow works with.

MLflow itself is not loaded for it: its migrations lie beside its code, in the form of Alembic.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MIGRATIONS = Path("store") / "db_migrations"
QUERY = "SELECT version_num FROM alembic_version"
CONNECT_SECONDS = 8


def revision_of(tracking_uri: str) -> str | None:
    """Return the version of a database, None where it holds no tables of MLflow's.

    Raises:
        OSError: it cannot be opened, or is no database.
    """
    if tracking_uri.startswith("sqlite:///"):
        return _of_sqlite(Path(tracking_uri.removeprefix("sqlite:///").partition("?")[0]))
    return _of_server(tracking_uri)


def steps_behind(revision: str) -> int | None:
    """Return how many migrations a version is behind this MLflow's; None where this MLflow does not know it: newer."""
    known = [each.revision for each in _scripts().walk_revisions()]  # the latest first
    return known.index(revision) if revision in known else None


def latest() -> str:
    """Return the version that this MLflow works with."""
    return str(_scripts().get_current_head())


def _scripts() -> Any:
    from alembic.script import ScriptDirectory

    package = find_spec("mlflow")
    if package is None or package.origin is None:
        raise OSError("MLflow is not installed")
    return ScriptDirectory(str(Path(package.origin).parent / MIGRATIONS))


def _of_sqlite(path: Path) -> str | None:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=CONNECT_SECONDS)) as connection:
            row = connection.execute(QUERY).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise OSError(f"'{path}': {error}") from error
    except sqlite3.DatabaseError as error:
        raise OSError(f"'{path}' is no SQLite database: {error}") from error
    return None if row is None else str(row[0])


def _of_server(uri: str) -> str | None:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

    named = "timeout" if uri.startswith("mssql") else "connect_timeout"
    try:
        engine = create_engine(uri, connect_args={named: CONNECT_SECONDS})
        try:
            with engine.connect() as connection:
                row = connection.execute(text(QUERY)).fetchone()
        finally:
            engine.dispose()
    except ProgrammingError:  # there is no such table
        return None
    except (SQLAlchemyError, ImportError) as error:
        raise OSError(str(error).partition("\n")[0]) from error
    return None if row is None else str(row[0])
