"""A large Feast source is read in parallel and exchanged by key, with what it gives in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from feast_repository import Repo, labels_table
from rayline.config import parse
from rayline.features import sources
from rayline.features.blocks import in_blocks
from rayline.features.joins import exchange
from rayline.features.joins.history import table_with_history, with_history

VIEWS = ("driver_stats", "driver_ties")


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.usefixtures("ray_cluster")
def test_what_is_read_in_parallel_is_what_is_read_at_once(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    joins = [
        {"name": view, "source": f"{repo.source}#{view}", "at": "event_timestamp", "prefix": f"{view}_"}
        for view in VIEWS
    ]
    raw: dict[str, Any] = {"name": "p", "data": {"source": "x"}, "features": {"target": "y", "join": joins}}
    config = parse(raw)
    rows = labels_table(hours=50)
    expected = table_with_history(config.features, rows)
    monkeypatch.setattr(sources, "ONE_READ_BYTES", 0)
    monkeypatch.setattr(exchange, "BROADCAST_BYTES", 0)
    _, dataset = with_history(config, rows, in_blocks(rows, 700))
    found = pa.concat_tables(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))
    assert found.combine_chunks() == expected.combine_chunks()
    assert expected.column("driver_ties_note").null_count < rows.num_rows / 2
