"""Requests that wait together share a pass, and each gets its own answer, whatever is wrong with the others."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from rayline.errors import Overloaded, RowError
from rayline.serving.traffic.plan import LiveVersion
from rayline.serving.versions.batching import Batcher, Waiting
from rayline.serving.versions.passing import NotFinite
from rayline.serving.versions.served import Served
from registry_examples import make_bundle, mixed_table, real_table

Answers = list[Any]


class Version:
    """Answers a request with its rows, and notes its passes."""

    remote: Callable[[Any], Awaitable[Any]] | None = None

    def __init__(self, cost: float = 0.0) -> None:
        self.cost = cost
        self.passes: list[int] = []
        self.threads: set[int] = set()
        self.go = threading.Event()
        self.go.set()

    def seconds(self, rows: int) -> float:
        return self.cost * rows

    def predict_many(self, requests: Sequence[Any]) -> Any:
        self.passes.append(len(requests))
        self.threads.add(threading.get_ident())
        assert self.go.wait(10)
        return [list(rows) for rows in requests]


def answers(version: Any, requests: Sequence[Any], timeout: float = 100.0, **given: Any) -> Answers:
    async def ask() -> Answers:
        with ThreadPoolExecutor(2) as threads:
            batcher = Batcher(threads, **given)
            loop = asyncio.get_running_loop()
            late = perf_counter() + timeout
            waiting = [batcher.predictions(version, rows, late) for rows in requests]
            found = await asyncio.wait_for(asyncio.gather(*waiting), 10)
            assert not batcher._lanes, "a version is held that nobody asks"
            assert loop.is_running()
            return list(found)

    return asyncio.run(ask())


def rows(count: int, first: int = 0) -> Any:
    return [{"x": first + place} for place in range(count)]


def test_what_waits_in_one_turn_of_the_loop_shares_a_pass() -> None:
    version = Version()
    requests = [rows(1), rows(3, 10), rows(2, 20)]
    assert answers(version, requests) == requests
    assert version.passes == [3]


def test_a_pass_holds_no_more_rows_than_it_may() -> None:
    version = Version()
    requests = [rows(2), rows(2, 10), rows(1, 20), rows(9, 30), rows(1, 40)]
    assert answers(version, requests, max_rows=5) == requests
    assert version.passes == [3, 1, 1]


def test_passes_are_not_shared_where_batching_is_off() -> None:
    version = Version()
    requests = [rows(1), rows(1, 10)]
    assert answers(version, requests, enabled=False) == requests
    assert version.passes == [1, 1]


def test_many_quick_requests_do_not_make_a_slow_pass_on_the_loop() -> None:
    version = Version(cost=0.001)
    requests = [rows(1, place) for place in range(7)]
    assert answers(version, requests) == requests
    assert version.passes == [3, 3, 1]
    assert version.threads == {threading.get_ident()}


def test_what_comes_during_a_slow_pass_shares_the_next() -> None:
    version = Version(cost=1.0)
    version.go.clear()

    async def ask() -> Answers:
        with ThreadPoolExecutor(2) as threads:
            batcher = Batcher(threads)
            first = asyncio.ensure_future(batcher.predictions(version, rows(1)))
            while not version.passes:
                await asyncio.sleep(0.001)
            later = [asyncio.ensure_future(batcher.predictions(version, rows(1, place))) for place in (1, 2, 3)]
            await asyncio.sleep(0)
            version.go.set()
            return list(await asyncio.wait_for(asyncio.gather(first, *later), 10))

    assert asyncio.run(ask()) == [rows(1, place) for place in range(4)]
    assert version.passes == [1, 3]
    assert threading.get_ident() not in version.threads


def test_a_request_that_waits_too_long_is_told_and_never_computed() -> None:
    version = Version(cost=1.0)
    version.go.clear()

    async def ask() -> Answers:
        with ThreadPoolExecutor(1) as threads:
            batcher = Batcher(threads)
            late = perf_counter() + 0.05
            found = [asyncio.ensure_future(batcher.predictions(version, rows(1, place), late)) for place in (1, 2)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            found.append(asyncio.ensure_future(batcher.predictions(version, rows(1, 3), late)))
            told = await asyncio.wait_for(asyncio.gather(*found), 10)
            version.go.set()
            return list(told)

    told = asyncio.run(ask())
    assert [type(each) for each in told] == [Overloaded] * 3
    assert version.passes == [2], "the third waited for its pass in vain, and must not have one"


def test_a_request_whose_client_is_gone_is_not_computed() -> None:
    version = Version()

    async def ask() -> None:
        with ThreadPoolExecutor(1) as threads:
            batcher = Batcher(threads)
            told: list[Any] = []
            gone, stays = Waiting(rows(1), told.append), Waiting(rows(1, 5), told.append)
            for waiting in (gone, stays):
                batcher.submit(version, waiting)
            gone.gone = True
            while not told:
                await asyncio.sleep(0)
            assert told == [rows(1, 5)]

    asyncio.run(ask())
    assert version.passes == [1]


def test_a_version_that_breaks_tells_every_request_of_its_pass_and_no_other() -> None:
    broken, sound = Version(), Version()
    broken.predict_many = lambda requests: 1 / 0  # type: ignore[method-assign]

    async def ask() -> Answers:
        with ThreadPoolExecutor(1) as threads:
            batcher = Batcher(threads)
            both = [batcher.predictions(version, rows(1)) for version in (broken, sound, broken)]
            return list(await asyncio.wait_for(asyncio.gather(*both), 10))

    found = asyncio.run(ask())
    assert [type(each) for each in found] == [ZeroDivisionError, list, ZeroDivisionError]


@pytest.mark.parametrize("slow", [False, True])
def test_a_version_elsewhere_is_asked_with_the_whole_batch(slow: bool) -> None:
    class Remote(Version):
        async def remote(self, requests: Any) -> Any:
            self.passes.append(len(requests))
            await asyncio.sleep(0)
            if slow:
                raise ConnectionError("its process died")
            return [list(each) for each in requests]

    version = Remote()
    found = answers(version, [rows(1), rows(2)])
    assert version.passes == [2]
    assert [str(each) for each in found] == ["its process died"] * 2 if slow else found == [rows(1), rows(2)]


@pytest.fixture(scope="module", params=["binary", "regression", "mixed"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    table = mixed_table() if request.param == "mixed" else real_table(request.param)
    bundle = make_bundle(tmp_path_factory.mktemp("bundle"), table)
    return Served.load("churn", LiveVersion(1, str(bundle.path), bundle.digest), ())


def test_bad_rows_are_told_to_their_request_alone(served: Served) -> None:
    good = [dict(row) for row in served.bundle.example[:2]]
    column = served.columns[0]
    absent = [good[0], {name: value for name, value in good[0].items() if name != column}]
    unknown = [{**good[1], "no such column": 1}]
    alone = served.predict(good).records
    found = served.predict_many([good, absent, good, unknown, good])
    assert [type(each).__name__ for each in found] == [
        "Predictions",
        "RowError",
        "Predictions",
        "RowError",
        "Predictions",
    ]
    for each in (found[0], found[2], found[4]):
        assert each.records() == alone  # type: ignore[union-attr]
    assert (found[1].row, found[1].column) == (1, column)  # type: ignore[union-attr]
    assert (found[3].row, found[3].column) == (0, "no such column")  # type: ignore[union-attr]


def test_typed_and_general_requests_share_a_pass(served: Served) -> None:
    row = dict(served.bundle.example[0])
    typed = served.decode(json.dumps({"rows": [row]}).encode(), 10)
    alone = served.predict([row]).records
    assert not isinstance(typed, list)
    for found in served.predict_many([typed, [row], typed]):
        assert found.records() == alone  # type: ignore[union-attr]


def test_a_network_that_fails_for_one_request_fails_that_one_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [dict(row) for row in served.bundle.example]
    bad = served.predictor.features.rows(rows[1:2])
    whole = type(served.predictor).predict_matrix

    def choosy(self: Any, matrix: Any) -> Any:
        if (matrix == bad).all(axis=1).any():
            raise FloatingPointError("not this row")
        return whole(self, matrix)

    monkeypatch.setattr(type(served.predictor), "predict_matrix", choosy)
    found = served.predict_many([rows[:1], rows[1:2], rows[:1]])
    assert [type(each).__name__ for each in found] == ["Predictions", "FloatingPointError", "Predictions"]


def test_an_answer_that_is_no_number_fails_its_own_request_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [dict(row) for row in served.bundle.example]
    bad = served.predictor.features.rows(rows[1:2])
    network = type(served.predictor.network)
    whole = network.__call__

    def sick(self: Any, matrix: Any) -> Any:
        return np.where((matrix == bad).all(axis=1, keepdims=True), np.nan, whole(self, matrix))

    monkeypatch.setattr(network, "__call__", sick)
    found = served.predict_many([rows[:1], rows[1:2], rows[:1]])
    assert [type(each) for each in found[1:2]] == [NotFinite]
    assert not any(isinstance(each, Exception) for each in (found[0], found[2]))
    with pytest.raises(NotFinite, match="version 1 answered row 1 with nan"):
        served.predict(rows[:2])


def test_a_row_gets_the_same_answer_alone_and_in_any_batch(served: Served) -> None:
    random = np.random.default_rng(5)
    matrix = random.normal(size=(2000, served.predictor.features.width)).astype(np.float32)
    alone = [served.predictor.predict_matrix(matrix[place : place + 1]) for place in range(len(matrix))]
    for size in (2, 7, 64, 2000):
        for start in range(0, len(matrix), size):
            batch = served.predictor.predict_matrix(matrix[start : start + size])
            assert batch.outcomes == [each.outcomes[0] for each in alone[start : start + size]]


def test_a_refused_row_has_the_position_that_it_has_in_its_own_request(served: Served) -> None:
    row = dict(served.bundle.example[0])
    [first, second] = served.predict_many([[row] * 5, [row, row, {}]])
    assert not isinstance(first, Exception)
    assert isinstance(second, RowError)
    assert second.row == 2
