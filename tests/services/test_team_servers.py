"""The servers themselves: MLflow's own client writes through the server, and SQL and S3 show what arrived."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayline.registry.mlflow_store import MlflowStore
from rayline.registry.store import Point
from team_services import Bucket, Process, query


def test_a_run_written_through_the_server_lies_in_postgresql_and_its_files_in_the_bucket(
    team_mlflow: Process, postgresql_uri: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in bucket.env:
        monkeypatch.delenv(name, raising=False)  # the client has no key to the bucket: the server alone has
    store = MlflowStore.open(f"http://127.0.0.1:{team_mlflow.port}", tmp_path)
    run = store.start_run("servers", "one", {"who": "a test"})
    store.log_batch(run, [Point("loss", 0.5, step, 1_000 + step) for step in (1, 2, 3)], {"units": 4}, {})
    (tmp_path / "note.txt").write_text("kept")
    store.log_file(run, tmp_path / "note.txt", "notes/note.txt")
    store.finish_run(run)

    assert query(postgresql_uri, "SELECT status FROM runs WHERE run_uuid = %s", run) == [("FINISHED",)]
    steps = query(postgresql_uri, "SELECT step, value FROM metrics WHERE run_uuid = %s ORDER BY step", run)
    assert steps == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert [key for key in bucket.keys("mlflow/") if key.endswith(f"{run}/artifacts/notes/note.txt")]
