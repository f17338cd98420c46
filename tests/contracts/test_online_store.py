"""Every online store keeps one contract: the newest row of each key, whoever writes, reads or opens it when."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayline.errors import ConfigError, DataError, ServiceError
from rayline.features.online.opening import VARIABLE, is_remote, open_store
from rayline.features.online.seam import Found, OnlineStore

COLUMNS = ("price", "count", "name", "open", "when", "list")
ROW = [0.1, 2**53 + 1, "Łódź", True, "2024-05-01T10:00:00", [1.5, None]]
NOW = 1_714_557_600_000_000

Opener = Callable[[], OnlineStore]


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis on a free port of loopback."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server is installed here")
    pytest.importorskip("redis", reason="the Redis client is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    folder = tmp_path_factory.mktemp("redis")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--dir", str(folder)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while not listens(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "Redis did not start"
        yield f"redis://127.0.0.1:{port}"
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(params=["embedded", "redis"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens one and the same store, again and again."""
    address = "embedded" if request.param == "embedded" else f"{request.getfixturevalue('redis_address')}"
    opened: list[OnlineStore] = []

    def open_() -> OnlineStore:
        opened.append(open_store(address, tmp_path))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.fixture
def table() -> str:
    return f"t-{uuid.uuid4().hex}"


def test_what_is_put_comes_back_with_its_types(opener: Opener, table: str) -> None:
    store = opener()
    assert store.put(table, COLUMNS, [("a",), ("b",)], [NOW, -5], [ROW, [None] * 6]) == 2
    found = store.get(table, [("b",), ("c",), ("a",), ("a",)])
    whole = Found(NOW, dict(zip(COLUMNS, ROW, strict=True)))
    assert found == [Found(-5, dict.fromkeys(COLUMNS)), None, whole, whole]
    assert [type(value) for value in whole.values.values()] == [float, int, str, bool, str, list]
    assert store.size(table) == 2


def test_a_table_that_nobody_wrote_is_empty(opener: Opener, table: str) -> None:
    store = opener()
    assert store.size(table) == 0
    assert store.get(table, [("a",), (1,)]) == [None, None]
    assert store.get(table, []) == []
    assert store.put(table, ["v"], [], [], []) == 0


def test_tables_do_not_see_each_other(opener: Opener, table: str) -> None:
    store = opener()
    store.put(table, ["v"], [("a",)], [1], [[1]])
    store.put(f"{table}2", ["v"], [("a",)], [1], [[2]])
    assert [store.get(name, [("a",)])[0] for name in (table, f"{table}2")] == [Found(1, {"v": 1}), Found(1, {"v": 2})]


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        (7, "7"),
        (7.0, 7),
        ("7", 7.0),
        (True, "true"),
        (date(2024, 5, 1), "2024-05-01"),
        (2**63, str(2**63)),
        ("x" * 5_000, "x" * 5_000),
    ],
)
def test_a_key_is_the_same_key_in_every_form(opener: Opener, table: str, written: Any, asked: Any) -> None:
    store = opener()
    store.put(table, ["v"], [(written, "z")], [1], [[5]])
    assert store.get(table, [(asked, "z")])[0] == Found(1, {"v": 5})


def test_other_keys_are_other_keys(opener: Opener, table: str) -> None:
    store = opener()
    keys = [("7",), ("07",), ("7", "1"), ("71",), ("7,1",), ("x" * 5_000,), ("x" * 5_001,), (False,), ("0",)]
    store.put(table, ["v"], keys, [1] * len(keys), [[place] for place in range(len(keys))])
    assert [each.values["v"] for each in store.get(table, keys) if each] == list(range(len(keys)))
    assert store.size(table) == len(keys)


def test_a_missing_part_is_no_key(opener: Opener, table: str) -> None:
    store = opener()
    assert store.put(table, ["v"], [(None, 1), ("", 1), (float("nan"), 1)], [1, 1, 1], [[1], [2], [3]]) == 0
    assert store.get(table, [(None, 1), ("", 1)]) == [None, None]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-3, 3)), max_size=30), st.integers(1, 4))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_newest_stays_and_of_equals_the_last(opener: Opener, puts: list[tuple[str, int]], step: int) -> None:
    store, table = opener(), f"t-{uuid.uuid4().hex}"
    best: dict[str, tuple[int, int]] = {}
    kept = expected = 0
    for start in range(0, len(puts), step):
        part = list(enumerate(puts))[start : start + step]
        kept += store.put(table, ["v"], [(k,) for _, (k, _) in part], [t for _, (_, t) in part], [[n] for n, _ in part])
        for number, (key, moment) in part:
            if key not in best or best[key][0] <= moment:
                best[key] = moment, number
                expected += 1
    found = [store.get(table, [(key,)])[0] for key in best]
    assert found == [Found(moment, {"v": number}) for moment, number in best.values()]
    assert (store.size(table), kept) == (len(best), expected)


def test_rows_outlive_a_change_of_columns(opener: Opener, table: str) -> None:
    writer, reader = opener(), opener()
    writer.put(table, ["v", "w"], [("a",), ("b",)], [1, 1], [[1, 2], [3, 4]])
    assert reader.get(table, [("a",)])[0] == Found(1, {"v": 1, "w": 2})
    writer.put(table, ["w", "x"], [("b",)], [2], [[5, 6]])
    assert reader.get(table, [("a",), ("b",)]) == [Found(1, {"v": 1, "w": 2}), Found(2, {"w": 5, "x": 6})]


def test_it_survives_its_closing(opener: Opener, table: str) -> None:
    store = opener()
    store.put(table, ["v"], [("a",)], [1], [[1]])
    store.close()
    store.close()
    assert opener().get(table, [("a",)])[0] == Found(1, {"v": 1})


def test_threads_read_and_write_together(opener: Opener, table: str) -> None:
    store = opener()
    keys = [(number,) for number in range(50)]

    def write(moment: int) -> None:
        store.put(table, ["v"], keys, [moment] * 50, [[moment] for _ in keys])

    def read(_: int) -> list[Found | None]:
        return store.get(table, keys)

    with ThreadPoolExecutor(4) as pool:
        writes, reads = pool.map(write, range(20)), list(pool.map(read, range(20)))
        list(writes)
    for found in reads:
        assert all(each is None or each.values["v"] == each.time for each in found)
    assert [each.time for each in store.get(table, keys) if each] == [19] * 50


@pytest.mark.parametrize(
    ("columns", "keys", "row", "message"),
    [
        (["v"], [(1.5,)], [1], "is no key"),
        (["v"], [([1],)], [1], "is no key"),
        (["v", "w"], [("a",)], [1], "a row of 1 values was given for the 2 columns v, w"),
        (["v"], [("a",)], [2**70], "cannot be kept"),
    ],
)
def test_what_cannot_be_kept_is_named_and_nothing_is_written(
    opener: Opener, table: str, columns: list[str], keys: list[Any], row: list[Any], message: str
) -> None:
    store = opener()
    with pytest.raises(DataError, match=message):
        store.put(table, columns, keys, [1], [row])
    assert store.size(table) == 0


def test_a_time_of_day_comes_as_text(opener: Opener, table: str) -> None:
    store = opener()
    store.put(table, ["v"], [("a",)], [1], [[datetime(2024, 5, 1, 10)]])  # type: ignore[list-item]
    found = store.get(table, [("a",)])[0]
    assert found is not None
    assert found.values["v"] == "2024-05-01T10:00:00"


def test_an_embedded_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"there is no online store .* `rayline features materialize`"):
        open_store("embedded", tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


def test_an_address_where_nothing_answers_is_told() -> None:
    pytest.importorskip("redis", reason="the Redis client is not installed")
    with pytest.raises(ServiceError, match=r"the online store redis://127.0.0.1:1 does not answer") as caught:
        open_store("redis://someone:secret@127.0.0.1:1/0", None)
    assert "secret" not in str(caught.value)


def test_the_variable_wins_over_the_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (is_remote("embedded"), is_remote("redis://x")) == (False, True)
    monkeypatch.setenv(VARIABLE, "redsi://x")
    assert is_remote("embedded")
    with pytest.raises(ConfigError, match=r"no online store has an address of 'redsi'. Did you mean 'redis'?"):
        open_store("embedded", tmp_path)
