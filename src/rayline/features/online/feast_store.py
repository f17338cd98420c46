"""Feast's online store behind our seam, and beside it Rayline's own: each table is asked for where it is kept."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date
from threading import Lock
from typing import Any

from rayline.config.history import feast_place
from rayline.errors import ConfigError, EnvironmentFailed, RaylineError, UsageError
from rayline.features.joins.feast import KeyKind, Repository, View
from rayline.features.joins.keys import key_text
from rayline.features.online.seam import Found, Key, OnlineStore, Value

VARIABLE = (
    "RAYLINE_FEAST_REPOSITORY"  # the folder of the repository where a service runs, if another than was trained from
)


class FeastStore:
    """The feature views of one Feast repository. Meets ``OnlineStore``; Feast alone writes it."""

    def __init__(self, folder: str) -> None:
        """Open a repository. Raises ``EnvironmentFailed`` where it cannot be used, or is none."""
        try:
            self._repository = Repository(folder)
        except UsageError as error:  # the request is not at fault
            raise EnvironmentFailed(str(error)) from error
        self._folder = folder
        self._views: dict[str, View] = {}

    def put(
        self,
        table: str,
        columns: Sequence[str],
        keys: Sequence[Key],
        times: Sequence[int],
        rows: Sequence[Sequence[Value]],
    ) -> int:
        """Raise ``UsageError``: Feast writes its own store."""
        raise UsageError(
            f"'{table}' is Feast's, which writes its online store itself: "
            f"`feast -c {self._folder} materialize-incremental $(date -u +%FT%TZ)`."
        )

    def get(self, table: str, keys: Sequence[Key]) -> list[Found | None]:
        """As ``OnlineStore``; a table is ``feast:FOLDER#VIEW``. Raises ``EnvironmentFailed``."""
        view = self._view(table)
        typed = [typed_key(key, view.kinds) for key in keys]
        asked = [place for place, key in enumerate(typed) if key is not None]
        found: list[Found | None] = [None] * len(keys)
        if not asked:
            return found
        columns = zip(*(typed[place] or () for place in asked), strict=True)
        answers = self._repository.latest(view, dict(zip(view.keys, columns, strict=True)))
        for place, answer in zip(asked, answers, strict=True):
            if answer is not None:
                found[place] = Found(answer.time, {name: plain(value) for name, value in answer.values.items()})
        return found

    def size(self, table: str) -> int:
        """Return 0: Feast does not tell."""
        return 0

    def close(self) -> None:
        """As ``OnlineStore``; Feast keeps nothing that must be let go of."""

    def _view(self, table: str) -> View:
        found = self._views.get(table)
        if found is None:
            place = feast_place(table)
            assert place is not None
            try:
                (found,) = self._repository.views(place[1])
                if not found.online:
                    raise ConfigError(f"Feast does not keep the feature view '{found.name}' online (online=False).")
            except UsageError as error:
                raise EnvironmentFailed(str(error)) from error
            self._views[table] = found
        return found


class BothStores:
    """Rayline's own store, and Feast's for the tables that are Feast's. Meets ``OnlineStore``."""

    def __init__(self, own: Callable[[], OnlineStore], tables: Iterable[str] = ()) -> None:
        """Open Feast's stores of some tables now, which takes seconds, and every other store when it is first asked.

        Args:
            own: opens Rayline's.
            tables: of Feast's, what will be asked for. A store that cannot be opened is tried again when it is asked.
        """
        self._open_own = own
        self._stores: dict[str, OnlineStore] = {}
        self._opening = Lock()
        for table in tables:
            with suppress(RaylineError):
                self.of(table).get(table, [])

    def put(
        self,
        table: str,
        columns: Sequence[str],
        keys: Sequence[Key],
        times: Sequence[int],
        rows: Sequence[Sequence[Value]],
    ) -> int:
        """As ``OnlineStore``. Raises ``UsageError`` for a table of Feast's."""
        return self.of(table).put(table, columns, keys, times, rows)

    def get(self, table: str, keys: Sequence[Key]) -> list[Found | None]:
        """As ``OnlineStore``."""
        return self.of(table).get(table, keys)

    def size(self, table: str) -> int:
        """As ``OnlineStore``."""
        return self.of(table).size(table)

    def close(self) -> None:
        """As ``OnlineStore``."""
        for store in self._stores.values():
            store.close()

    def of(self, table: str) -> OnlineStore:
        """Return the store that keeps a table, opened. Raises as its opening does."""
        place = feast_place(table)
        folder = "" if place is None else os.environ.get(VARIABLE) or place[0]
        found = self._stores.get(folder)
        if found is None:
            with self._opening:
                found = self._stores.get(folder)
                if found is None:
                    found = self._stores[folder] = FeastStore(folder) if folder else self._open_own()
        return found


def typed_key(key: Key, kinds: Sequence[KeyKind]) -> Key | None:
    """Return a key in the types that Feast keeps; None where one part is missing, or no number where one is kept."""
    parts: list[Any] = []
    for value, kind in zip(key, kinds, strict=True):
        text = key_text(value)
        if text is None:
            return None
        if kind == "number":
            if str(whole := _whole(text)) != text:
                return None
            parts.append(whole)
        else:
            parts.append(text if kind == "text" else value)
    return tuple(parts)


def plain(value: Any) -> Value:
    """Return a value of Feast's as JSON has it: times as ISO 8601 texts, bytes in base64."""
    if isinstance(value, float) and value != value:
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (list, tuple, set)):
        return [plain(each) for each in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _whole(text: str) -> int | None:
    try:
        whole = int(text)
    except ValueError:
        return None
    return whole if -(2**63) <= whole < 2**63 else None
