"""The rows of a SQL query over a DB-API connection (PEP 249)."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rayline.config import SqlConfig
from rayline.config.data import VARIABLE
from rayline.errors import ConfigError, DataError, EnvironmentFailed, NotFoundError, suggestion
from rayline.features.sources.formats import refuse_twins

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 10_000  # as Python objects, before they become Arrow

_asked: dict[str, pa.Table] = {}
"""The rows of the last query that was run to be digested: the reading that follows takes them, so that one query
serves both and the digest is of what is read."""


@dataclass(frozen=True, slots=True)
class Connect:
    """What opens a connection, on any machine; its ``repr`` shows no secret."""

    module: str
    values: Mapping[str, Any] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def __call__(self) -> Any:
        """Return an open connection.

        Raises:
            ConfigError: the module has no ``connect``.
            EnvironmentFailed: the module is not installed, or the database cannot be reached.
        """
        try:
            door = importlib.import_module(self.module)
        except ImportError as error:
            raise EnvironmentFailed(
                f"data.sql.module '{self.module}' cannot be imported: {error}. Install the package that has it, on "
                "every machine of the cluster."
            ) from error
        if not hasattr(door, "connect"):
            raise ConfigError(f"data.sql.module '{self.module}' has no connect function, so it is no DB-API module.")
        try:
            return door.connect(**self.values)
        except Exception as error:  # noqa: BLE001  each driver has its own errors
            # Not chained: a driver may repeat the password.
            raise EnvironmentFailed(
                f"data.sql: {self.module}.connect failed: {self.veiled(str(error) or type(error).__name__)}. "
                "Check data.sql.connect, and that the database runs."
            ) from None

    def veiled(self, text: str) -> str:
        """Return a text without the values that came from the environment."""
        for secret in self.secrets:
            text = text.replace(secret, "•••")
        return text


@dataclass(frozen=True, slots=True)
class SqlSource:
    """The rows of one query."""

    sql: SqlConfig

    def table(self, head: int | None = None) -> pa.Table:
        """Return the rows, in the order of the query. Raises ``DataError`` for a query that fails."""
        kept = _asked.pop(_slot(self.sql), None)
        if kept is not None:
            return kept
        return _joined(self.sql, self._batches(head))

    def dataset(self, schema: pa.Schema | None, columns: tuple[str, ...] | None = None) -> Any:
        """Return the rows as a Dataset that reads one shard of them in each task.

        Raises:
            ConfigError: the database cannot divide the query by ``shard_key``.
            DataError: some rows fall into no shard.
        """
        import ray.data

        from rayline.features.blocks import quiet

        sql, connect = self.sql, connection(self.sql)
        assert sql.shard_key is not None
        self._refuse_rows_without_shard()
        with quiet():
            try:
                found = ray.data.read_sql(
                    sql.query,
                    connect,
                    shard_keys=[sql.shard_key],
                    shard_hash_fn=sql.shard_hash,
                    override_num_blocks=sql.parallelism,
                )
            except ValueError as error:
                raise _no_shards(sql, str(error)) from error
            return found if columns is None else found.select_columns(list(columns))

    def digest(self) -> str:
        """Hash the rows and the columns' names, whatever the order, or the answer to ``version`` where there is one."""
        from rayline.features.hashing import mix, row_hashes

        digest = hashlib.blake2b(self.sql.query.encode(), digest_size=8)
        if self.sql.version is not None:
            with self._asking(self.sql.version) as cursor:
                digest.update(repr(cursor.fetchall()).encode())
            return digest.hexdigest()
        total, rows = 0, 0
        kept: list[pa.Table] = []
        for batch in self._batches(None):
            hashes = row_hashes(batch)
            total = (total + int(mix(hashes).sum(dtype=np.uint64))) % 2**64
            rows += batch.num_rows
            digest.update(b"" if kept else repr(sorted(batch.column_names)).encode())
            kept.append(batch if self.sql.shard_key is None else batch.slice(0, 0))
        digest.update(f"{rows} {total:016x}".encode())
        if self.sql.shard_key is None:
            _asked.clear()
            _asked[_slot(self.sql)] = _joined(self.sql, iter(kept))
        return digest.hexdigest()

    def larger_than(self, limit: int) -> bool:
        """The rows are read on the cluster where the configuration names a key to divide them by."""
        return self.sql.shard_key is not None

    def _batches(self, head: int | None) -> Iterator[pa.Table]:
        """Yield the rows as Arrow tables, at least one; types may differ from one to the next."""
        import pyarrow as pa

        taken, first = 0, True
        with self._asking(self.sql.query) as cursor:
            names = [str(each[0]) for each in cursor.description or ()]
            refuse_twins(names, "the query of data.sql")
            if not names:
                raise DataError("data.sql.query gives no rows: it is no SELECT. Write a query that gives a table.")
            while first or (head is None or taken < head):
                rows = cursor.fetchmany(ROWS_AT_ONCE)
                if not rows and not first:
                    return
                first = False
                columns = list(zip(*rows, strict=True)) or [()] * len(names)
                batch = pa.table({name: _arrow(name, values) for name, values in zip(names, columns, strict=True)})
                taken += batch.nbytes
                yield batch

    def _refuse_rows_without_shard(self) -> None:
        """Count what Ray's shards would leave out without a word: rows whose key is missing or no whole number."""
        sql = self.sql
        place = f"MOD(ABS({sql.shard_hash}({sql.shard_key})), {sql.parallelism})"
        inside = ", ".join(str(number) for number in range(sql.parallelism))
        counts = f"SELECT COUNT(*), SUM(CASE WHEN {place} IN ({inside}) THEN 1 ELSE 0 END) FROM ({sql.query}) AS t"
        try:
            with self._asking(counts) as cursor:
                rows, placed = cursor.fetchone()
        except DataError as error:
            raise _no_shards(sql, str(error)) from error
        if rows != (placed or 0):
            raise DataError(
                f"data.sql.shard_key '{sql.shard_key}' is missing or no whole number in {rows - (placed or 0):,} of "
                f"{rows:,} rows, which would be left out. Name another column, or make a number of it: shard_hash."
            )

    @contextmanager
    def _asking(self, query: str) -> Iterator[Any]:
        """Run a query and give its cursor. Raises ``DataError`` with the database's words."""
        connect = connection(self.sql)
        opened = connect()
        try:
            cursor = opened.cursor()
            cursor.execute(query)
            yield cursor
        except (DataError, ConfigError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001  each driver has its own errors
            raise DataError(
                f"data.sql.query failed: {connect.veiled(str(error) or type(error).__name__)}. The query was: {query}"
            ) from None
        finally:
            opened.close()


def connection(sql: SqlConfig) -> Connect:
    """Return what opens the connection, with the values of environment variables in their places.

    Raises:
        ConfigError: a variable is not set.
        NotFoundError: there is no such SQLite file, which SQLite would otherwise make.
    """
    secrets: list[str] = []
    values = {key: _filled(value, f"data.sql.connect.{key}", secrets) for key, value in sql.connect.items()}
    database = values.get("database")
    if sql.module == "sqlite3" and isinstance(database, str) and not database.startswith((":memory:", "file:")):
        path = Path(database)
        if not path.is_file():
            beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
            near = suggestion(path.name, beside)
            raise NotFoundError(f"database '{sql.connect['database']}' does not exist. {near}")
    return Connect(sql.module, values, tuple(secrets))


def _filled(value: Any, place: str, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(each, f"{place}.{key}", secrets) for key, each in value.items()}
    if not isinstance(value, str):
        return value
    for name in VARIABLE.findall(value):
        if name not in os.environ:
            raise ConfigError(f"{place} needs the environment variable {name}, which is not set. Set it, then run.")
        secrets += [os.environ[name]] if os.environ[name] else []
    return VARIABLE.sub(lambda found: os.environ[found[1]], value)


def _arrow(name: str, values: tuple[Any, ...]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise DataError(
            f"column '{name}' of data.sql has values that are no one type: {error}. Use CAST in the query."
        ) from error


def _joined(sql: SqlConfig, batches: Iterator[pa.Table]) -> pa.Table:
    import pyarrow as pa

    try:
        return pa.concat_tables(list(batches), promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"a column of data.sql has values that are no one type: {error}. Use CAST in the query."
        ) from error


def _slot(sql: SqlConfig) -> str:
    from rayline.config import plain

    return repr(plain(sql))


def _no_shards(sql: SqlConfig, why: str) -> ConfigError:
    return ConfigError(
        f"data.sql.shard_key '{sql.shard_key}' cannot divide the query on this database: {why} "
        "Name a whole-number column, or leave shard_key out: the rows then pass through the driver."
    )
