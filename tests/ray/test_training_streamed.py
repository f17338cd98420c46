"""A training part that stays on disk: every row once an epoch, in an order that seed and epoch decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayline.training.context import Place
from rayline.training.feed import Batch
from rayline.training.spec import StreamedPart, TrainData
from rayline.training.streamed import RayDataFeed, dataset_of
from rayline.training.trainer import train
from training_examples import made_data, spec_of

pytestmark = pytest.mark.usefixtures("ray_cluster")


def on_disk(folder: Path, data: TrainData, files: int = 3) -> TrainData:
    """Write the training part as a features step does, and return data that streams it."""
    (folder / "train").mkdir(parents=True)
    x, y = data.train
    for place, (some, truth) in enumerate(zip(np.array_split(x, files), np.array_split(y, files), strict=True)):
        column = pa.FixedSizeListArray.from_arrays(pa.array(some.reshape(-1)), x.shape[1])
        table = pa.table({"x": column, "y": truth})
        with (
            pa.OSFile(str(folder / "train" / f"{place:05d}.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as to,
        ):
            to.write_table(table)
    return TrainData((x[:0], y[:0]), data.valid, StreamedPart(folder, len(x), x.shape[1]))


def numbered(rows: int) -> TrainData:
    """Return rows whose only number is their place."""
    x = np.arange(rows, dtype=np.float32)[:, None]
    return TrainData((x, x[:, 0]), (x[:1], x[:1, 0]))


def rows_of(batches: list[Batch]) -> list[int]:
    return [int(value) for x, _ in batches for value in x[:, 0]]


@pytest.mark.parametrize(("rows", "size", "window"), [(100, 8, 32), (97, 8, 16), (97, 32, 4096), (7, 32, 64)])
def test_an_epoch_gives_every_row_once_and_in_an_order_of_its_own(
    tmp_path: Path, rows: int, size: int, window: int
) -> None:
    part = on_disk(tmp_path, numbered(rows)).streamed
    assert part is not None
    feed = RayDataFeed(part, dataset_of(part), "regression", spec_of(batch_size=size).train, Place(), window)
    first, again, second = (list(feed.batches(epoch)) for epoch in (1, 1, 2))
    given = rows_of(first)
    assert len(first) == feed.steps
    assert len(set(given)) == len(given) == rows - (rows % size == 1)
    assert {len(x) for x, _ in first[:-1]} <= {size}
    assert rows_of(again) == given
    assert rows_of(second) != given
    assert all((x[:, 0] == y).all() for x, y in first)


def test_labels_are_counted_without_the_features(tmp_path: Path) -> None:
    data = made_data("multiclass")
    part = on_disk(tmp_path, data).streamed
    assert part is not None
    feed = RayDataFeed(part, None, "multiclass", spec_of("multiclass").train, Place())
    assert feed.label_counts(3).tolist() == np.bincount(data.train[1], minlength=3).tolist()


def test_a_streamed_part_trains_like_one_in_memory_with_one_worker_and_with_two(tmp_path: Path) -> None:
    data = made_data(rows=900)
    streamed = on_disk(tmp_path / "part", data)
    settings = {"epochs": 8, "patience": 0, "feed": "ray_data"}
    memory = train(spec_of(**{**settings, "feed": "memory"}), data, tmp_path / "memory")
    for workers in (1, 2):
        found = train(spec_of(num_workers=workers, **settings), streamed, tmp_path / f"{workers}")
        assert found.metrics["valid_loss"] == pytest.approx(memory.metrics["valid_loss"], rel=0.1)
        assert [report.epoch for report in found.history] == list(range(1, 9))
