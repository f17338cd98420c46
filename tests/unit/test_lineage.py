"""What `rayline lineage` tells of a version, from MLflow and the storage alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from rayline import config
from rayline.cli.app import run
from rayline.features.changes import changes
from rayline.features.sources import source_digest
from rayline.features.transform import FittedFeatureSet
from rayline.lineage import lineage
from rayline.project import Project
from rayline.registry.store import Point
from rayline.rollout.plans.plan import Plan, SetWeight
from rayline.rollout.state import Decision, RolloutState
from rayline.rollout.storage.storage import RolloutFiles
from rayline.serving.traffic.plan import LiveVersion
from registry_examples import fitted, make_bundle, mixed_table

PARTS = {"train": {"rows": 9, "digest": "a" * 32}, "valid": {"rows": 2, "digest": "b" * 32}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two versions of one model, the second of a Study's trial and with other levels."""
    folder = tmp_path_factory.mktemp("project")
    table = mixed_table()
    pa.csv.write_csv(table, folder / "table.csv")
    file = folder / "rayline.yaml"
    file.write_text(json.dumps({"name": "table", "data": {"source": "table.csv"}, "features": {"target": "target"}}))
    loaded = config.load(file)
    project, store = Project(loaded), Project(loaded).store
    study = store.start_run("table", "study", {})
    for seed, rows in ((1, table), (2, without(table, "x y"))):
        tags = {"rayline.trial": "4", "rayline.skew": "none in 1,000 training rows"} if seed == 2 else {}
        run_id = store.start_run("table", "run", tags, study if seed == 2 else None)
        store.log_params(run_id, {"train.epochs": seed})
        store.log_metrics(run_id, [Point("test_rmse", seed / 4, 0, 1), Point("valid_loss", 9.0, 0, 1)])
        store.finish_run(run_id)
        made = {
            "source": loaded.data.source,
            "source_digest": source_digest(loaded.data),
            "data_digest": "d" * 32,
            "rows": {"test": 3, "train": 9},
            "parts": PARTS,
            "schema_fingerprint": "f" * 16,
            "study_run_id": study if seed == 2 else None,
            "code_commit": "abc-dirty",
            "python": "3.11",
            "numpy": "2",
        }
        bundle = make_bundle(folder / "made", rows, name="table", seed=seed, lineage=made)
        store.register(bundle, run_id)
    store.set_alias("table", "champion", 1)
    return project


def without(table: pa.Table, town: str) -> pa.Table:
    return table.filter(pa.compute.fill_null(pa.compute.not_equal(table.column("town"), town), True))


def test_a_version_names_its_data_its_run_and_its_code(project: Project) -> None:
    found = lineage(project.config, "2")

    assert (found.version, found.aliases, found.code) == (2, (), "abc-dirty")
    assert found.environment == {"python": "3.11", "numpy": "2"}
    data = found.data
    assert (data.source, data.digest, data.schema) == (project.config.data.source, "d" * 32, "f" * 16)
    assert (dict(data.rows), data.parts) == ({"train": 9, "test": 3}, {"train": "a" * 32, "valid": "b" * 32})
    assert list(data.rows) == ["train", "test"]
    assert found.run is not None
    assert (found.run.trial, found.run.params, found.run.metrics) == (4, {"train.epochs": "2"}, {"rmse": 0.5})
    assert project.store.run(found.run.run_id).parent == found.run.study
    assert found.run.skew == "none in 1,000 training rows"
    assert found.traffic == ()


def test_a_version_tells_what_changed_since_the_one_before(project: Project) -> None:
    features = lineage(project.config, "2").features

    assert [each.name for each in features.columns] == ["size", "count", "gappy", "town", "grade", "open", "at"]
    assert features.columns[3].outputs == 4
    assert features.since == 1
    assert features.changes[0] == "column 'town' lost 1 ('x y') of its levels"
    assert features.changes[1].startswith("the fitted numbers of 'size'")


def test_without_a_selector_it_is_the_champion_and_the_first_has_none_before(project: Project) -> None:
    found = lineage(project.config, None)

    assert (found.version, found.aliases) == (1, ("champion",))
    assert (found.features.since, found.features.changes) == (None, ())
    assert found.run is not None
    assert (found.run.study, found.run.trial, found.run.skew) == (None, None, None)


def test_the_source_is_compared_with_what_it_was(project: Project) -> None:
    source = Path(project.config.data.source)
    content = source.read_bytes()
    try:
        assert lineage(project.config, "1").data.now == "unchanged"
        source.write_bytes(content + b"1,2,3,a,1,true,2024-01-01,5\n")
        assert lineage(project.config, "1").data.now == "changed since"
        source.unlink()
        assert lineage(project.config, "1").data.now == "gone"
    finally:
        source.write_bytes(content)


def test_rollouts_of_a_version_are_its_traffic(project: Project) -> None:
    files = RolloutFiles(project.storage, "table")
    versions = {number: LiveVersion(number=number, path="x", digest="y") for number in (1, 2)}
    files.write(
        RolloutState(
            id="r1",
            kind="rollout",
            service="table",
            plan=Plan("canary", (SetWeight(10), SetWeight(100))),
            stable_version=versions[1],
            canary_version=versions[2],
            phase="Degraded",
            began=100.0,
            updated=160.0,
            experiment="table",
            message="accuracy fell",
            decisions=(Decision(110.0, "weight", 10, "step 1"), Decision(160.0, "abort", 0, "accuracy fell")),
        )
    )
    try:
        (canary,), (stable,) = (lineage(project.config, number).traffic for number in ("2", "1"))
    finally:
        files.close()
        (project.storage / "services" / "table" / "rollout.db").unlink()

    assert (canary.role, canary.other, canary.phase, canary.highest) == ("canary", 1, "Degraded", 10)
    assert (canary.began, canary.ended, canary.message) == (100.0, 160.0, "accuracy fell")
    assert (stable.role, stable.other) == ("stable", 2)


def test_a_run_that_was_deleted_leaves_the_rest(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from rayline.errors import NotFoundError
    from rayline.registry.mlflow_store import MlflowStore

    def gone(self: MlflowStore, run_id: str) -> Any:
        raise NotFoundError(f"run '{run_id}' does not exist.")

    monkeypatch.setattr(MlflowStore, "run", gone)

    found = lineage(project.config, "1")

    assert found.run is None
    assert found.data.digest == "d" * 32


def test_the_command_prints_a_tree_or_json_without_ray(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.storage.parent)

    assert run(["lineage", "table@2"]) == 0
    text = capsys.readouterr().out
    assert run(["lineage", "table@champion", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)

    for words in ("table version 2", "d" * 32, "a" * 32, "unchanged", "trial 4 of study", "rmse 0.5", "abc-dirty"):
        assert words in text
    assert values == json.loads(json.dumps(asdict(lineage(project.config, "@champion"))))
    assert run(["lineage", "table@9"]) == 2
    assert "has no version 9. Its versions: 1, 2" in capsys.readouterr().err


def test_changes_are_told_in_sentences() -> None:
    def state(**columns: Any) -> FittedFeatureSet:
        return fitted(pa.table({**columns, "target": np.random.default_rng(3).normal(size=120)}))

    old = state(a=["x", "y", "z", "w"] * 30, b=[0.5, 1.25, 2.75, 3.0] * 30, c=[True, False, True, True] * 30)
    new = state(a=["x", "y", "v", "u"] * 30, b=["p", "q", "p", "q"] * 30, d=[0.5, 1.25, 9.75, 3.0] * 30)

    assert changes(old, new) == (
        "column 'd' (numeric) was added",
        "column 'c' (boolean) was removed",
        "column 'a' gained 2 ('u', 'v') and lost 2 ('w', 'z') of its levels",
        "column 'b' was numeric and is categorical",
    )
    assert changes(old, old) == ()
