"""The queue between a run and the store: on disk at once, in the store once and in order, whatever fails on the way."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.errors import CheckFailed, TrackingError
from rayline.registry.memory import MemoryStore
from rayline.registry.spool import Spool, Tracking
from rayline.registry.spool_delivery import Delivery
from rayline.registry.spool_file import SpoolFile
from rayline.registry.spool_records import Batch, Start, Status, amount, line_of, lines_in, read_back, written
from rayline.registry.store import Point

NAME = "run-abc-1"


class FailingStore(MemoryStore):
    """A store that answers each write as it is told: ``ok``, ``down``, or ``lost`` (done, and the answer is lost)."""

    def __init__(self, answers: Sequence[str] = ()) -> None:
        super().__init__()
        self.answers = list(answers)
        self.down = False

    def start_run(self, *values: Any) -> str:
        return self._answered(lambda: super(FailingStore, self).start_run(*values))

    def log_batch(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        self._answered(lambda: super(FailingStore, self).log_batch(run_id, points, params, tags))

    def finish_run(self, *values: Any) -> None:
        self._answered(lambda: super(FailingStore, self).finish_run(*values))

    def _answered(self, write: Callable[[], Any]) -> Any:
        answer = self.answers.pop(0) if self.answers else "ok"
        if self.down or answer == "down":
            raise TrackingError("the store is away.")
        done = write()
        if answer == "lost":
            raise TrackingError("the answer was lost.")
        return done


def queue(folder: Path, store: MemoryStore, heard: list[str] | None = None, seconds: float = 20.0) -> Tracking:
    return Tracking(folder, lambda: store, (heard if heard is not None else []).append, seconds)


def told(spool: Spool, key: str = NAME, steps: range = range(1, 6), status: str = "FINISHED") -> None:
    """Tell a whole run."""
    spool.start_run(key, "e", "a run", {"kind": "train"}, None, 1)
    for step in steps:
        spool.log_metrics(key, [Point("loss", 1.0 / step, step, 1_000 + step)])
    spool.log_params(key, {"train": {"epochs": 5}})
    spool.set_tags(key, {"stopped": "finished"})
    spool.finish_run(key, status, 9_000)  # type: ignore[arg-type]


def test_what_a_run_tells_is_in_the_store_and_the_queue_is_gone(tmp_path: Path) -> None:
    store, heard = MemoryStore(), list[str]()
    tracking = queue(tmp_path / "q", store, heard)
    (tmp_path / "there.txt").write_text("here")

    spool = tracking.open(NAME)
    told(spool)
    spool.log_text(NAME, "a: 1", "config.yaml")
    spool.log_file(NAME, tmp_path / "there.txt", "files/kept.txt")
    spool.log_bytes(NAME, b"own", "files/own.bin")
    spool.close(over=True)

    record = store.run(spool.run_id(NAME))
    assert (record.experiment, record.name, record.status) == ("e", "a run", "FINISHED")
    assert store.history(record.run_id, "loss") == tuple((step, 1.0 / step) for step in range(1, 6))
    assert record.params == {"train.epochs": "5"}
    assert record.tags == {"kind": "train", "stopped": "finished", "rayline.key": NAME}
    assert record.files == ("config.yaml", "files/kept.txt", "files/own.bin")
    assert [path.name for path in (tmp_path / "q").iterdir()] == [f"{NAME}.json"]
    assert tracking.run_id(NAME) == record.run_id
    assert (tmp_path / "there.txt").exists()
    assert heard == []


def test_a_store_that_is_away_is_waited_for_no_longer_than_agreed_and_the_next_command_delivers(tmp_path: Path) -> None:
    store, heard = FailingStore(), list[str]()
    store.down = True
    tracking = queue(tmp_path, store, heard, seconds=0.1)

    spool = tracking.open(NAME)
    told(spool)
    assert spool.run_id(NAME, 0.0) == NAME
    spool.close(over=True)

    assert heard[0].startswith("the store is away. Training goes on; what it tells waits in ")
    assert heard[-1] == (
        f"5 points for MLflow wait in '{tmp_path / f'{NAME}.jsonl'}'; they are delivered by the next rayline command"
    )
    assert tracking.run_id(NAME) is None
    later = queue(tmp_path, store, heard)
    later.deliver_left(store)
    assert later.left() == {tmp_path / f"{NAME}.jsonl": heard[-1]}

    store.down = False
    later.deliver_left(store)

    (run_id,) = store.find_runs("e", {})
    assert later.run_id(NAME) == run_id
    assert later.left() == {}
    assert (store.run(run_id).status, len(store.history(run_id, "loss"))) == ("FINISHED", 5)
    assert not list(tmp_path.glob("*.jsonl"))


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["ok", "down", "lost"]), max_size=12), st.integers(0, 3))
def test_each_thing_is_in_the_store_once_and_in_order_whatever_fails(answers: list[str], again: int) -> None:
    with _folder() as folder:
        store = FailingStore(answers)
        file = SpoolFile(folder / f"{NAME}.jsonl")
        file.open()
        keys = [NAME, f"{NAME}/trial-1", f"{NAME}/trial-2"]
        for number, key in enumerate(keys):
            file.append(line_of(Start(key, "e", key, {}, number, NAME if number else None)))
            for step in range(1, 4):
                file.append(line_of(Batch(key, written([Point("loss", float(step), step, step)]), {"n": str(number)})))
            file.append(line_of(Status(key, "FINISHED", 9)))
        for _ in range(len(answers) + 1):  # every attempt in a new process, which knows only what is on disk
            _attempt(file, store)
        for _ in range(again):
            (folder / f"{NAME}.json").unlink()  # how far it was is lost: all is delivered once more
            _attempt(file, store)

        runs = store.find_runs("e", {})
        assert [store.run(run).name for run in runs] == keys
        assert [store.run(run).parent for run in runs] == [None, runs[0], runs[0]]
        assert all(store.history(run, "loss") == ((1, 1.0), (2, 2.0), (3, 3.0)) for run in runs)
        assert {store.run(run).status for run in runs} == {"FINISHED"}
        assert file.waiting() == (0, 0)
        file.close()


def _attempt(file: SpoolFile, store: MemoryStore) -> None:
    try:
        Delivery(file).deliver(store)
    except TrackingError:
        return


def _folder() -> Any:
    import tempfile

    class Folder(tempfile.TemporaryDirectory[str]):
        def __enter__(self) -> Path:  # type: ignore[override]
            return Path(super().__enter__())

    return Folder()


@given(st.integers(0, 400), st.binary(max_size=40))
def test_what_a_killed_writer_left_half_written_is_passed_over(cut: int, noise: bytes) -> None:
    whole = [line_of(Batch(NAME, written([Point("loss", float(step), step, step)]))) for step in range(5)]
    content = b"".join(whole)
    with _folder() as folder:
        file = SpoolFile(folder / f"{NAME}.jsonl")
        file.path.write_bytes(content[:cut] + noise.replace(b"\n", b""))
        kept = content[:cut].count(b"\n")

        file.open()
        file.append(whole[-1])

        found = [placed.record for placed in file.records()]
        assert len(found) == kept + 1
        assert all(isinstance(record, Batch) for record in found)
        file.close()


@given(st.integers(0, 4), st.data())
def test_a_line_damaged_on_disk_is_known_and_those_around_it_are_read(which: int, data: st.DataObject) -> None:
    lines = [line_of(Batch(NAME, written([Point("loss", float(step), step, step)]))) for step in range(5)]
    place = data.draw(st.integers(0, len(lines[which]) - 2))
    broken = bytearray(lines[which])
    broken[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte not in (10, broken[place])))
    lines[which] = bytes(broken)

    found = list(lines_in(b"".join(lines), 100))

    upper_case_hex = found[which].record is not None  # of the checksum: the same number
    assert [number for number, placed in enumerate(found) if placed.record is None] == (
        [] if upper_case_hex else [which]
    )
    assert found[-1].end == 100 + sum(map(len, lines))
    assert sum(amount(placed.record) for placed in found) == 5 - (not upper_case_hex)


@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_any_number_comes_back_as_it_was(values: list[float]) -> None:
    points = [Point("m", value, step, 1) for step, value in enumerate(values)]

    (placed,) = lines_in(line_of(Batch(NAME, written(points))), 0)

    assert isinstance(placed.record, Batch)
    back = read_back(placed.record.points)
    assert all(math.isnan(b.value) if math.isnan(a.value) else a == b for a, b in zip(points, back, strict=True))


def test_what_the_store_will_never_take_is_told_and_the_rest_comes_through(tmp_path: Path) -> None:
    store, heard = MemoryStore(), list[str]()
    spool = queue(tmp_path, store, heard).open(NAME)
    spool.start_run(NAME, "e", "a run", {})
    spool.log_params(NAME, {"a": 1})
    spool.log_metrics("0" * 32, [Point("m", 1.0, 1, 1)])
    spool.log_params(NAME, {"a": 2, "b": 3})
    spool.log_file(NAME, tmp_path / "missing", "x")
    spool.log_metrics(NAME, [Point("m", 1.0, 1, 1)])
    spool.close(over=True)

    (run_id,) = store.find_runs("e", {})
    assert store.history(run_id, "m") == ((1, 1.0),)
    assert len(heard) == 1
    assert heard[0].startswith("MLflow refused ")


def test_a_queue_has_one_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayline.registry.spool_file.WAIT_SECONDS", 0.05)
    tracking = queue(tmp_path, MemoryStore())
    spool = tracking.open(NAME)

    with pytest.raises(CheckFailed, match="another process writes"):
        tracking.open(NAME)

    spool.close()
    tracking.open(NAME).close()


def test_a_run_that_goes_on_is_found_again_even_where_its_queue_is_lost(tmp_path: Path) -> None:
    store = MemoryStore()
    first = queue(tmp_path / "one", store).open(NAME)
    told(first, steps=range(1, 4), status="KILLED")
    first.close()

    second = queue(tmp_path / "two", store).open(NAME, resumed=True)
    told(second, steps=range(1, 6))
    second.close(over=True)

    (run_id,) = store.find_runs("e", {})
    assert store.history(run_id, "loss") == tuple((step, 1.0 / step) for step in range(1, 6))
    assert store.run(run_id).status == "FINISHED"


def test_a_double_that_a_slow_server_made_is_taken_out(tmp_path: Path) -> None:
    class Doubling(FailingStore):
        """Carries out late what it was asked for before it stood still."""

        def start_run(self, *values: Any) -> str:
            if "late" not in vars(self):
                self.late = values
                raise TrackingError("no answer in time.")
            run_id = super().start_run(*values)
            MemoryStore.start_run(self, *self.late)
            return run_id

    store = Doubling()
    spool = queue(tmp_path, store).open(NAME)
    told(spool)
    spool.close(over=True)

    (run_id,) = store.find_runs("e", {"rayline.key": NAME})
    assert len(store.history(run_id, "loss")) == 5


def test_many_threads_write_one_queue(tmp_path: Path) -> None:
    store = MemoryStore()
    spool = queue(tmp_path, store).open(NAME)
    spool.start_run(NAME, "e", "a run", {})

    def tell(name: str) -> None:
        for step in range(200):
            spool.log_metrics(NAME, [Point(name, float(step), step, step)])

    threads = [threading.Thread(target=tell, args=(f"m{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spool.close(over=True)

    (run_id,) = store.find_runs("e", {})
    assert all(len(store.history(run_id, f"m{number}")) == 200 for number in range(4))


def test_a_full_disk_ends_nothing_and_what_waits_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    file = SpoolFile(tmp_path / f"{NAME}.jsonl")
    file.open()
    lines = [line_of(Batch(NAME, written([Point("m", 1.0, step, step)]))) for step in range(4)]
    file.append(lines[0])
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda output, line: write(output, line[:7]))
        file.append(lines[1])
        file.append(lines[2])
        assert file.blocked
    file.append(lines[3])

    assert not file.blocked
    steps = [placed.record.points[0].step for placed in file.records() if isinstance(placed.record, Batch)]
    assert steps == [0, 1, 2, 3]
    file.close()
