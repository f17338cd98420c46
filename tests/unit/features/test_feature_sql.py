"""The rows of a query become a table, and no secret leaves the environment."""

from __future__ import annotations

import sqlite3
import sys
import types
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rayline import config
from rayline.config import DataConfig, SqlConfig
from rayline.errors import ConfigError, DataError, EnvironmentFailed, NotFoundError
from rayline.features.sources import read_table, source_digest, too_large

ROWS = [(1, "a", 0.5), (2, None, None), (3, "c", 2.0)]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return filled(tmp_path / "shop.db", ROWS)


def filled(file: Path, rows: list[tuple[Any, ...]]) -> Path:
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE IF NOT EXISTS sale (id INTEGER, kind TEXT, price REAL)")
        database.executemany("INSERT INTO sale VALUES (?, ?, ?)", rows)
    database.close()
    return file


def of(file: Path | str, query: str = "SELECT * FROM sale", **settings: Any) -> DataConfig:
    return DataConfig(sql=SqlConfig(query=query, connect={"database": str(file)}, **settings))


def test_a_query_gives_a_table_in_its_order(shop: Path) -> None:
    table = read_table(of(shop, "SELECT id, kind, price FROM sale ORDER BY id DESC"))
    assert table.to_pydict() == {"id": [3, 2, 1], "kind": ["c", None, "a"], "price": [2.0, None, 0.5]}
    assert not too_large(of(shop))
    assert too_large(of(shop, shard_key="id"))


def test_many_rows_come_in_pieces_whose_types_agree(tmp_path: Path) -> None:
    rows = [
        (index, None if index < 10_000 else "late", index if index < 15_000 else index / 2) for index in range(25_000)
    ]
    table = read_table(of(filled(tmp_path / "many.db", rows)))
    assert table.num_rows == 25_000
    assert [str(kind) for kind in table.schema.types] == ["int64", "string", "double"]
    head = read_table(of(tmp_path / "many.db"), head=True)
    assert head.slice(0, 10).to_pydict() == table.slice(0, 10).to_pydict()


def test_the_digest_is_of_the_rows_whatever_their_order(shop: Path, tmp_path: Path) -> None:
    before = source_digest(of(shop))
    other = filled(tmp_path / "other.db", ROWS[::-1])
    assert source_digest(of(other)) == before
    filled(shop, [(4, "d", 1.0)])
    assert source_digest(of(shop)) != before
    assert source_digest(of(shop, "SELECT id FROM sale")) != source_digest(of(shop, "SELECT kind FROM sale"))


def test_the_rows_that_were_digested_are_the_ones_that_are_read(shop: Path) -> None:
    source_digest(of(shop))
    filled(shop, [(4, "d", 1.0)])
    assert read_table(of(shop)).num_rows == 3
    assert read_table(of(shop)).num_rows == 4


def test_a_version_query_stands_for_the_rows(shop: Path) -> None:
    data = of(shop, version="SELECT max(id) FROM sale")
    before = source_digest(data)
    with sqlite3.connect(shop) as database:
        database.execute("UPDATE sale SET price = 9")
    assert source_digest(data) == before
    filled(shop, [(4, "d", 1.0)])
    assert source_digest(data) != before
    database.close()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM sales", "data.sql.query failed: no such table: sales. The query was: SELECT"),
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("SELECT id, id FROM sale", "the query of data.sql has the column 'id' more than once"),
        ("SELECT * FROM sale WHERE id > 9", "gives no rows"),
        ("SELECT CASE id WHEN 1 THEN 1 ELSE 'x' END AS mixed FROM sale", "column 'mixed' of data.sql has values"),
        ("DELETE FROM sale WHERE id > 9", "it is no SELECT"),
    ],
)
def test_a_query_that_fails_says_so(shop: Path, query: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(of(shop, query))


def test_a_missing_database_is_named_and_not_made(tmp_path: Path, shop: Path) -> None:
    with pytest.raises(NotFoundError, match=r"shp\.db' does not exist\. Did you mean 'shop\.db'"):
        read_table(of(tmp_path / "shp.db"))
    assert not (tmp_path / "shp.db").exists()


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(EnvironmentFailed, match=r"'no_such_driver' cannot be imported.*Install the package"):
        read_table(DataConfig(sql=SqlConfig(query="SELECT 1", module="no_such_driver")))
    with pytest.raises(ConfigError, match="'json' has no connect function"):
        read_table(DataConfig(sql=SqlConfig(query="SELECT 1", module="json")))


def test_a_password_comes_from_the_environment_and_stays_out_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def connect(**values: Any) -> None:
        seen.update(values)
        raise RuntimeError(f"no route for {values['dsn']}")

    driver = types.ModuleType("talkative_driver")
    driver.connect = connect  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "talkative_driver", driver)
    data = DataConfig(
        sql=SqlConfig(
            query="SELECT 1",
            module="talkative_driver",
            connect={"dsn": "pg://me:${SHOP_PASSWORD}@host", "options": {"password": "${SHOP_PASSWORD}"}},
        )
    )
    with pytest.raises(ConfigError, match=r"data\.sql\.connect\.dsn needs the environment variable SHOP_PASSWORD"):
        read_table(data)
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    with pytest.raises(EnvironmentFailed, match="no route for pg://me:•••@host") as caught:
        read_table(data)
    assert seen == {"dsn": "pg://me:hunter2@host", "options": {"password": "hunter2"}}
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    for text in (data.label, repr(data), str(config.plain(data)), repr(msgspec.structs.astuple(data))):
        assert "hunter2" not in text


@pytest.mark.parametrize(
    "connect",
    [
        {"password": "hunter2"},
        {"db_passwd": "hunter2"},
        {"options": {"api_key": "hunter2"}},
        {"token": 1234},
        {"dsn": "postgresql://me:hunter2@host/shop"},
        {"dsn": "host=db user=me password=hunter2"},
    ],
)
def test_a_secret_in_the_file_is_refused_without_repeating_it(connect: dict[str, Any]) -> None:
    raw = {"name": "t", "features": {"target": "y"}, "data": {"sql": {"query": "SELECT 1", "connect": connect}}}
    with pytest.raises(ConfigError, match=r"data\.sql.*holds a secret.*environment variable") as caught:
        config.parse(raw)
    assert "hunter2" not in str(caught.value)


def test_a_source_and_a_query_exclude_each_other_and_one_is_needed() -> None:
    raw = {"name": "t", "features": {"target": "y"}, "data": {"source": "a.csv", "sql": {"query": "SELECT 1"}}}
    with pytest.raises(ConfigError, match="'source' and 'sql' both say where the table is: leave one out"):
        config.parse(raw)
    with pytest.raises(ConfigError, match=r"Set data\.source .* or data\.sql .* or hand a table over"):
        read_table(config.parse({"name": "t", "features": {"target": "y"}}).data)


def test_a_database_is_beside_the_configuration(tmp_path: Path, shop: Path) -> None:
    file = tmp_path / "project.yaml"
    file.write_text(
        "name: t\nfeatures: {target: y}\ndata: {sql: {query: 'SELECT * FROM sale', connect: {database: shop.db}}}\n"
    )
    loaded = config.load(file)
    assert read_table(loaded.data).num_rows == 3
    assert loaded.data.sql is not None
    assert loaded.data.sql.connect == {"database": str(shop)}
    memory = config.load(file, ["data.sql.connect.database=':memory:'"]).data.sql
    assert memory is not None
    assert memory.connect == {"database": ":memory:"}
