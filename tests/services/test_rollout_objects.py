"""The rollouts of a service in an object store, on a real S3 protocol."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rayline.errors import ServiceError, StaleController, StorageError
from rayline.rollout import commands
from rayline.rollout.storage import object_files
from rayline.rollout.storage.files import RolloutStore, rollout_files
from rayline.rollout.storage.object_files import HEAD, RolloutObjects
from rayline.storage import folder_of
from rayline.storage.objects import Objects
from rollout_doubles import SERVICE
from rollout_files_suite import Open, RolloutFilesSuite, rollout
from team_services import Bucket


@pytest.fixture
def storage(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty storage."""
    for name, value in {**bucket.env, "RAYLINE_SCRATCH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{bucket.name}/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def opened(storage: str) -> Open:
    def another() -> RolloutStore:
        files = rollout_files(storage, SERVICE)
        assert isinstance(files, RolloutObjects)
        return files

    return another


class TestObjects(RolloutFilesSuite):
    """``RolloutObjects``."""


def key(storage: str, bucket: Bucket) -> str:
    return f"{storage.removeprefix(f's3://{bucket.name}/')}/services/{SERVICE}/{HEAD}"


def losing(monkeypatch: pytest.MonkeyPatch, fate: Callable[[Any], Any]) -> None:
    """Have the next conditional write end in ``fate``, which is given the real one's answer."""
    swap, left = Objects.swap, [True]

    def lost(self: Objects, key: str, content: bytes, before: str | None) -> str | None:
        answer = swap(self, key, content, before)
        if left:
            left.clear()
            return fate(answer)
        return answer

    monkeypatch.setattr(Objects, "swap", lost)


def test_a_write_whose_answer_was_lost_is_no_other_controller(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    files = opened()
    files.write(rollout(2))

    def away(answer: Any) -> Any:
        raise StorageError("the connection broke")

    losing(monkeypatch, away)
    with pytest.raises(StorageError):
        files.write(rollout(2, "told late"))
    files.write(rollout(2, "told again"))
    assert opened().read() == rollout(2, "told again")


def test_an_object_that_was_deleted_begins_above_the_numbers_it_had(opened: Open, storage: str, bucket: Bucket) -> None:
    files = opened()
    before = files.claim()
    bucket.client().delete_object(Bucket=bucket.name, Key=key(storage, bucket))
    with pytest.raises(StaleController, match="holds nothing any more"):
        files.write(rollout(2))
    assert opened().claim() >= before


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{half", "is damaged"), (b'{"fence": 1, "generation": 1, "by": "", "layout": 7}', "layout 7")],
)
def test_a_damaged_object_is_named_and_nothing_is_guessed(
    opened: Open, storage: str, bucket: Bucket, content: bytes, words: str
) -> None:
    opened().write(rollout(2))
    bucket.client().put_object(Bucket=bucket.name, Key=key(storage, bucket), Body=content)
    with pytest.raises(ServiceError, match=rf"{HEAD}'.* {words}"):
        opened().read()


def test_history_is_read_without_ray_by_the_uri_and_by_its_folder(opened: Open, storage: str) -> None:
    files = opened()
    for number in (2, 3):
        files.write(rollout(number))
    for where in (storage, folder_of(storage)):
        assert [each.id for each in commands.history(SERVICE, storage=where)] == ["r3", "r2"]


def test_a_sign_of_life_is_paid_for_only_now_and_then(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    files = opened()
    files.write(rollout(2))
    for _ in range(20):
        files.beat("seen")
    assert opened().signs()[1] == 1
    monkeypatch.setattr(object_files, "BEAT_SECONDS", 0.0)
    files.beat("again")
    assert opened().signs()[1] == 2
