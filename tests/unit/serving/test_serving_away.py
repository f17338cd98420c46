"""The stand-in of a version that another process holds: what it asks, and how it fails when nobody answers there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from rayline.errors import RowError, VersionDown
from rayline.serving.versions import away
from rayline.serving.versions.away import Away

ROWS = [{"size": 1.0}]


class There:
    """Does what a deployment's handle does; each call does what ``acts`` says next."""

    def __init__(self, *acts: Callable[[list[Any]], Any]) -> None:
        self.acts = list(acts)
        self.asked: list[list[Any]] = []
        self.predict = SimpleNamespace(remote=self._remote)

    async def _remote(self, requests: list[Any]) -> Any:
        self.asked.append(requests)
        said = self.acts.pop(0)(requests)
        return await said if asyncio.iscoroutine(said) else said


def fails(_: list[Any]) -> Any:
    raise RuntimeError("the actor died")


async def hangs(_: list[Any]) -> Any:
    await asyncio.sleep(60)


def answers(requests: list[Any]) -> list[Any]:
    return [f"answer to {len(rows)}" for rows in requests]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(away, "monotonic", lambda: now[0])
    return now


def test_all_that_wait_go_in_one_call_and_each_has_its_own_answer(clock: list[float]) -> None:
    bad = RowError(0, "size", "x", "must be a number")
    there = There(lambda requests: ["first", bad])
    told = asyncio.run(Away("churn", 2, there)([ROWS, ROWS * 3]))
    assert told == ["first", bad]
    assert there.asked == [[ROWS, ROWS * 3]]


def test_a_process_that_died_fails_what_was_asked_and_is_left_alone_for_a_while(clock: list[float]) -> None:
    there = There(fails, fails, answers)
    asks = Away("churn", 2, there)

    async def story() -> None:
        for _ in range(5):
            [told] = await asks([ROWS])
            assert isinstance(told, VersionDown)
            assert "version 2 of 'churn' runs in a process of its own, which does not answer: RuntimeError" in str(told)
        assert len(there.asked) == 1
        clock[0] += 1
        await asks([ROWS])
        assert len(there.asked) == 2
        clock[0] += 1
        assert await asks([ROWS]) == ["answer to 1"]
        there.acts.append(answers)
        assert await asks([ROWS]) == ["answer to 1"]

    asyncio.run(story())


def test_one_that_hangs_is_given_up_and_then_tried_for_a_shorter_time(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(away, "CALL_SECONDS", 0.05)
    monkeypatch.setattr(away, "TRIAL_SECONDS", 0.01)
    there = There(hangs, hangs, answers)
    asks = Away("churn", 2, there)

    async def story() -> None:
        for _ in range(2):
            [told] = await asks([ROWS])
            assert isinstance(told, VersionDown)
            assert "no answer within" in str(told)
            clock[0] += 1
        assert await asks([ROWS]) == ["answer to 1"]

    asyncio.run(story())


def test_it_is_busy_while_it_asks_and_for_a_moment_after(clock: list[float]) -> None:
    async def slowly(requests: list[Any]) -> list[Any]:
        await asyncio.sleep(0)
        return answers(requests)

    asks = Away("churn", 2, There(slowly))
    assert not asks.busy

    async def story() -> None:
        under_way = asyncio.ensure_future(asks([ROWS]))
        await asyncio.sleep(0)
        assert asks.busy
        await under_way

    asyncio.run(story())
    assert asks.busy
    clock[0] += 1
    assert not asks.busy
