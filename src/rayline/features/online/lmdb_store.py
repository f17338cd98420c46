"""The online store in an LMDB environment: readers look at the file's own pages in memory; nobody waits for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rayline.errors import EnvironmentFailed, ServiceError
from rayline.features.online.record import Layouts, key_bytes, listed, records, time_of, unlisted
from rayline.features.online.seam import Found, Key, Value

MAP_BYTES = 64 * 2**30  # address space, not disk: the file grows as it is written
MOST_TABLES = 1_000
MOST_READERS = 1_000

_environments: dict[Path, tuple[Any, int, threading.RLock]] = {}
"""What this process has open, how often, and who may write: LMDB allows each file once per process.

Opening a table waits for LMDB's one writer without letting go of Python's lock, so a writer among our own threads would
never end: of them one at a time may write or open a table.
"""
_opening = threading.Lock()


class LmdbStore:
    """Meets ``OnlineStore``."""

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        """Open the store in a folder, making it where there is none.

        Raises:
            ServiceError: there is none, and it must not be made (``create``).
            EnvironmentFailed: the folder or its files cannot be used.
        """
        self._folder = folder.resolve()
        if not create and not (self._folder / "data.mdb").is_file():
            raise ServiceError(
                f"there is no online store in '{folder}' to look columns up in: send them in the request, or write the "
                "store with `rayline features materialize`."
            )
        self._closed = False
        self._tables: dict[str, Any] = {}
        self._layouts = Layouts(self._columns)
        with self._door():
            self._environment, self._writing = _opened(self._folder)

    def put(
        self,
        table: str,
        columns: Sequence[str],
        keys: Sequence[Key],
        times: Sequence[int],
        rows: Sequence[Sequence[Value]],
    ) -> int:
        """As ``OnlineStore``: one transaction, in the order of the keys."""
        made = sorted(records(columns, keys, times, rows), key=lambda each: each[0])  # stable: of one key in order
        kept = 0
        with self._door(), self._writing:
            rows_of, lists_of = self._table(f"rows/{table}", create=True), self._table(f"columns/{table}", create=True)
            with self._environment.begin(write=True) as transaction:
                transaction.put(listed(columns), b"", db=lists_of)
                for key, time, record in made:
                    before = transaction.get(key, db=rows_of)
                    if before is None or time_of(before) <= time:
                        transaction.put(key, record, db=rows_of)
                        kept += 1
        return kept

    def get(self, table: str, keys: Sequence[Key]) -> list[Found | None]:
        """As ``OnlineStore``."""
        names = [key_bytes(key) for key in keys]
        with self._door():
            rows = self._table(f"rows/{table}")
            if rows is None:
                return [None] * len(names)
            with self._environment.begin(db=rows) as transaction:
                get = transaction.get
                kept = [get(name) if name is not None else None for name in names]
        return [self._layouts.found(table, record) if record is not None else None for record in kept]

    def size(self, table: str) -> int:
        """As ``OnlineStore``."""
        with self._door():
            rows = self._table(f"rows/{table}")
            if rows is None:
                return 0
            with self._environment.begin() as transaction:
                return int(transaction.stat(rows)["entries"])

    def close(self) -> None:
        """As ``OnlineStore``."""
        if not self._closed:
            self._closed = True
            _released(self._folder)

    def _columns(self, table: str) -> list[list[str]]:
        with self._door():
            lists = self._table(f"columns/{table}")
            if lists is None:
                return []
            with self._environment.begin(db=lists) as transaction:
                return [unlisted(key) for key in transaction.cursor().iternext(values=False)]

    def _table(self, name: str, *, create: bool = False) -> Any:
        found = self._tables.get(name)
        if found is None and (create or self._has(name.encode())):
            with self._writing:
                found = self._tables[name] = self._environment.open_db(name.encode(), create=create)
        return found

    def _has(self, name: bytes) -> bool:
        """Tell whether there is a table, without waiting for a writer: LMDB lists them in its main table."""
        with self._environment.begin() as transaction:
            return bool(transaction.cursor().set_key(name))

    @contextmanager
    def _door(self) -> Iterator[None]:
        import lmdb

        try:
            yield
        except lmdb.MapFullError as error:
            raise EnvironmentFailed(
                f"the online store '{self._folder}' is full: it holds {MAP_BYTES // 2**30} GiB. Keep fewer columns, or "
                "use Redis (features.online.store)."
            ) from error
        except lmdb.Error as error:
            raise EnvironmentFailed(f"the online store '{self._folder}' cannot be used: {error}.") from error


def _opened(folder: Path) -> tuple[Any, threading.RLock]:
    import lmdb

    with _opening:
        environment, users, writing = _environments.get(folder, (None, 0, threading.RLock()))
        if environment is None:
            folder.mkdir(parents=True, exist_ok=True)
            environment = lmdb.open(
                str(folder),
                map_size=MAP_BYTES,
                max_dbs=2 * MOST_TABLES,
                max_readers=MOST_READERS,
                readahead=False,
                sync=True,
            )
            environment.reader_check()  # frees the places of readers that died
        _environments[folder] = environment, users + 1, writing
        return environment, writing


def _released(folder: Path) -> None:
    with _opening:
        environment, users, writing = _environments[folder]
        if users == 1:
            del _environments[folder]
            environment.close()
        else:
            _environments[folder] = environment, users - 1, writing
