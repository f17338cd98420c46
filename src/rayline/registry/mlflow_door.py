"""The connection to MLflow: opened at the first use, its errors turned into ours, its SQLite file made whole."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rayline.errors import NotFoundError, TrackingError, TrackingRefused
from rayline.registry import sqlite
from rayline.registry.mlflow_values import DEFAULTS, shown_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CONNECTING = threading.Lock()  # of the whole process: the migrations of two databases at once spoil each other
_SETTLED: set[str] = set()  # databases whose new connections are seen to; guarded by _CONNECTING
_REACH = "Check that registry.tracking_uri is reachable and writable."
_FOR_GOOD = frozenset({"INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS"})
"""MLflow's codes for what it will never take. All others may pass: a lock, a restart, an expired token."""


@dataclass
class MlflowDoor:
    """A connection to MLflow, made at the first use; a copy sent to another process connects anew.

    Attributes:
        tracking_uri: absolute; what MLflow's own tools take (``mlflow ui --backend-store-uri``).
        artifact_root: URI below which new experiments keep their files; None lets the server decide.
    """

    tracking_uri: str
    artifact_root: str | None = None
    _connected: MlflowClient | None = field(default=None, init=False, repr=False, compare=False)
    _experiments: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _opened: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.tracking_uri, self.artifact_root)

    @property
    def shown(self) -> str:
        """The tracking URI as it may stand in a message."""
        return shown_uri(self.tracking_uri)

    def connect(self) -> None:
        """Connect now. Raises ``TrackingError`` where MLflow cannot be reached, or its database made."""
        with self._door("open"):
            pass

    @property
    def _client_uri(self) -> str:
        if self.tracking_uri.startswith("sqlite:///") and "?" not in self.tracking_uri:
            return f"{self.tracking_uri}?timeout={sqlite.BUSY_SECONDS}"
        return self.tracking_uri

    @contextmanager
    def _door(self, action: str, missing: str = "it") -> Iterator[MlflowClient]:
        """Yield the client, and turn what MLflow and its database raise into our errors."""
        try:
            client = self._client()
        except Exception as error:  # opening runs a database driver of the user's choice
            raise TrackingError(f"{self._refusal('open the store', error)} {_REACH}") from error
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield client
        except MlflowException as error:
            self._experiments.clear()  # one of them may be gone
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise NotFoundError(f"{missing} does not exist in MLflow at {self.shown}.") from error
            kind = TrackingRefused if error.error_code in _FOR_GOOD else TrackingError
            raise kind(self._refusal(action, error)) from error
        except (SQLAlchemyError, OSError) as error:
            raise TrackingError(f"{self._refusal(action, error)} {_REACH}") from error

    def _refusal(self, action: str, error: Exception) -> str:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"MLflow at {self.shown} could not {action}: {lines[0][:300].rstrip('.')}."

    def _client(self) -> MlflowClient:
        with _CONNECTING:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> MlflowClient:
        # These tell at INFO of every migration, wait and check, where all is as it should be.
        for name in ("mlflow.store.db.utils", "mlflow.store.model_registry", "alembic", "mlflow.pyfunc"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with warnings.catch_warnings():
            # MLflow warns about its own type hints and its own table mappings.
            warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
            warnings.filterwarnings("ignore", message=".*noload.*loader strategy is deprecated")
            import mlflow.pyfunc  # needed to register a model; here its second is spent with the rest of the opening

            if self.tracking_uri.startswith("sqlite:///"):
                path = Path(self.tracking_uri.removeprefix("sqlite:///").partition("?")[0])
                sqlite.ensured(path, self._create)
                _settle_connections(path)
            client = mlflow.MlflowClient(tracking_uri=self._client_uri, registry_uri=self._client_uri)
            client.search_experiments(max_results=1)
        return client

    def _create(self, path: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        made = SqlAlchemyStore(f"sqlite:///{path}", self.artifact_root)
        made.engine.dispose()

    def _experiment(self, client: MlflowClient, name: str) -> str:
        """Return the id of an experiment, making it where there is none."""
        if name not in self._experiments:
            self._experiments[name] = self._found_or_made(client, name)
        return self._experiments[name]

    def _found_or_made(self, client: MlflowClient, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(name)
        if found is None:
            location = None if self.artifact_root is None else f"{self.artifact_root}/{quote(name, safe='')}"
            try:
                return str(client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)
        return str(found.experiment_id)


def _settle_connections(path: Path) -> None:
    """Have every connection that MLflow makes to a database file set as ``sqlite.settle`` says."""
    from sqlalchemy import Engine, event

    def connected(connection: Any, record: object) -> None:
        if isinstance(connection, sqlite3.Connection) and sqlite.is_at(connection, path):
            sqlite.settle(connection)

    if str(path) not in _SETTLED:
        _SETTLED.add(str(path))
        event.listen(Engine, "connect", connected)
