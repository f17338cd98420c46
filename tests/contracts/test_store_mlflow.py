"""What MLflow's own tools see of a registered bundle, and how the embedded database stands up to being shared."""

from __future__ import annotations

import pickle
import socket
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rayline.errors import TrackingError
from rayline.features.facts import DataFacts
from rayline.features.splits.identity import PartFacts
from rayline.registry.mlflow_store import MlflowStore
from registry_examples import make_bundle, mixed_table, real_table


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowStore]:
    store = MlflowStore.open(None, tmp_path_factory.mktemp("store"))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.tracking_uri)
    yield store
    mlflow.set_tracking_uri(before)


TABLES = {
    "binary": lambda: real_table("binary"),
    "multiclass": lambda: real_table("multiclass"),
    "regression": lambda: real_table("regression"),
    "mixed": mixed_table,
}


@pytest.mark.parametrize("kind", TABLES)
def test_mlflow_scores_a_version_to_the_same_predictions(kind: str, store: MlflowStore, tmp_path: Path) -> None:
    table: pa.Table = TABLES[kind]()
    bundle = make_bundle(tmp_path, table, name=kind)
    store.register(bundle, store.start_run("scoring", "run", {}))
    store.set_alias(kind, "champion", 1)
    frame = table.drop_columns(["target"]).to_pandas()
    frame.index = frame.index + 100

    model = mlflow.pyfunc.load_model(f"models:/{kind}@champion")
    scored = model.predict(frame)

    expected = bundle.predictor().predict_table(table)
    assert list(scored.index) == list(frame.index)
    if expected.labels is None:
        np.testing.assert_array_equal(scored["prediction"], expected.values)
    else:
        assert scored["label"].tolist() == [expected.labels[index] for index in expected.values]
        columns = [f"probability_{label}" for label in expected.labels]
        np.testing.assert_array_equal(scored[columns].to_numpy(), expected.probabilities)


def test_the_model_carries_its_signature_and_an_example_that_it_answers(store: MlflowStore, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, mixed_table(), name="signed")
    store.register(bundle, store.start_run("scoring", "run", {}))

    model = mlflow.pyfunc.load_model("models:/signed/1")
    signature = model.metadata.signature
    example = mlflow.models.Model.load("models:/signed/1").load_input_example()

    kinds = {spec["name"]: spec["type"] for spec in signature.inputs.to_dict()}
    assert kinds == {
        "size": "double",
        "count": "long",
        "gappy": "any",
        "town": "string",
        "grade": "long",
        "open": "any",
        "at": "datetime",
    }
    assert [spec["name"] for spec in signature.outputs.to_dict()] == ["prediction"]
    np.testing.assert_allclose(
        model.predict(example)["prediction"], bundle.predictor().predict(bundle.example).values, rtol=1e-12
    )


def test_a_bad_frame_is_refused_by_the_columns_name(store: MlflowStore, tmp_path: Path) -> None:
    store.register(make_bundle(tmp_path, mixed_table(), name="strict"), store.start_run("scoring", "run", {}))
    model = mlflow.pyfunc.load_model("models:/strict/1")
    frame = mixed_table().to_pandas()

    with pytest.raises(mlflow.MlflowException, match="town"):
        model.predict(frame.drop(columns="town"))
    with pytest.raises(mlflow.MlflowException, match="size"):
        model.predict(frame.assign(size="large"))


def test_the_model_holds_no_pickle_and_no_code(store: MlflowStore, tmp_path: Path) -> None:
    version = store.register(make_bundle(tmp_path, mixed_table(), name="plain"), store.start_run("scoring", "run", {}))

    folder = Path(mlflow.artifacts.download_artifacts(version.uri, dst_path=str(tmp_path / "model")))

    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "manifest.json", "model.safetensors", "requirements.txt"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".py", ".pickle"))]
    assert not [path for path in folder.rglob("*") if path.is_file() and path.read_bytes().startswith(b"\x80")]


def test_mlflow_shows_the_run_its_trials_its_data_and_its_model(store: MlflowStore, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, mixed_table(), name="shown")
    schema = bundle.features.schema
    parent = store.start_run("shown", "study", {})
    child = store.start_run("shown", "trial", {}, parent)
    parts = {"train": PartFacts(5, "c" * 32), "valid": PartFacts(1, "d" * 32), "test": PartFacts(2, "e" * 32)}
    facts = DataFacts("/d/mixed.csv", "cd" * 16, {part: each.rows for part, each in parts.items()}, "f", (), parts)
    store.log_datasets(child, facts, schema)
    store.register(bundle, child)

    run = mlflow.get_run(child)
    data = {each.tags[0].value: each.dataset for each in run.inputs.dataset_inputs}
    nested = mlflow.search_runs(
        experiment_names=["shown"], filter_string=f"tags.`mlflow.parentRunId` = '{parent}'", output_format="list"
    )

    assert [each.info.run_id for each in nested] == [child]
    assert {context: (each.name, each.digest, each.profile) for context, each in data.items()} == {
        "training": ("mixed.csv", "c" * 32, '{"num_rows": 5}'),
        "validation": ("mixed.csv", "d" * 32, '{"num_rows": 1}'),
        "evaluation": ("mixed.csv", "e" * 32, '{"num_rows": 2}'),
    }
    assert '"name": "size", "type": "numeric"' in data["training"].schema
    assert "cd" * 16 in data["training"].source
    assert len(run.outputs.model_outputs) == 1
    logged = mlflow.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert (logged.name, str(logged.status), logged.source_run_id) == ("shown", "READY", child)
    assert '"version": "1"' in logged.tags["mlflow.modelVersions"]


def test_nothing_is_left_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    store = MlflowStore.open(None, tmp_path / "state with a space")
    store.log_text(store.start_run("an/odd name?", "run", {}), "x", "x.txt")

    assert [path.name for path in tmp_path.iterdir()] == ["state with a space"]
    assert [path.read_text() for path in tmp_path.rglob("x.txt")] == ["x"]


def test_a_store_sent_to_another_process_connects_anew(store: MlflowStore) -> None:
    run_id = store.start_run("sent", "run", {})

    sent = pickle.loads(pickle.dumps(store))

    assert sent == store
    assert sent.run(run_id).name == "run"


OPEN_TOGETHER = """
    import os, sys
    from rayline.registry.mlflow_store import MlflowStore
    from rayline.registry.store import Point, now_ms
    MlflowStore.open(None, sys.argv[1] + "/another")  # loads all that is to be loaded, before the children part

    start_read, start_write = os.pipe()
    children = []
    for number in range(16):
        child = os.fork()
        if child == 0:
            os.close(start_write)
            os.read(start_read, 1)
            code = 1
            try:
                store = MlflowStore.open(None, sys.argv[1])
                study = store.start_run("together", f"study {number}", {})
                for trial in range(3):
                    run = store.start_run("together", f"trial {number} {trial}", {"kind": "trial"}, study)
                    points = [Point("loss", 1.0 / (step + 1), step, now_ms()) for step in range(20)]
                    store.log_batch(run, points, {"rate": 0.1, "hidden": 8}, {"status": "finished"})
                    store.finish_run(run)
                store.finish_run(study)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    os.close(start_write)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(codes != [0] * 16)
"""


def test_sixteen_processes_log_trials_to_a_fresh_store_at_once(tmp_path: Path) -> None:
    # The children share one load of MLflow and start together, when the last writing end of the pipe is closed.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OPEN_TOGETHER), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "locked" not in done.stderr
    runs = MlflowStore.open(None, tmp_path)
    trials = runs.find_runs("together", {"kind": "trial"})
    records = [runs.run(run) for run in trials]
    assert sorted(each.name for each in records) == sorted(f"trial {a} {b}" for a in range(16) for b in range(3))
    assert {each.status for each in records} == {"FINISHED"}
    assert all(len(runs.history(run, "loss")) == 20 for run in trials)
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_server_that_does_not_answer_is_an_error_and_no_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        port = held.getsockname()[1]

        with pytest.raises(TrackingError, match=rf"127\.0\.0\.1:{port} could not open .*registry\.tracking_uri"):
            MlflowStore.open(f"http://127.0.0.1:{port}", tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(TrackingError, match="could not open the store"):
        MlflowStore.open(None, tmp_path / "file" / "state")


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database, and longer than a header of one hundred bytes " * 4)

    with pytest.raises(TrackingError, match=r"mlflow\.db could not open the store"):
        MlflowStore.open(None, tmp_path)


def test_frames_without_gaps_and_with_other_number_types_are_answered(store: MlflowStore, tmp_path: Path) -> None:
    store.register(make_bundle(tmp_path, mixed_table(), name="lenient"), store.start_run("scoring", "run", {}))
    model = mlflow.pyfunc.load_model("models:/lenient/1")
    frame = mixed_table().to_pandas()
    whole = frame[frame["gappy"].notna()].astype({"gappy": "int64", "count": "int32"})

    expected = model.predict(frame).loc[whole.index]

    pd.testing.assert_frame_equal(model.predict(whole), expected)


def test_two_stores_are_made_in_one_process_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(lambda number: MlflowStore.open(None, tmp_path / str(number)), range(2)))

    for store in stores:
        run_id = store.start_run("made", "run", {})
        assert store.run(run_id).name == "run"
