"""What every tracking store does: one suite, for MLflow on SQLite and for the in-memory double."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from rayline.errors import BundleError, NotFoundError, TrackingRefused, UsageError
from rayline.features.facts import DataFacts
from rayline.features.splits.identity import PartFacts
from rayline.registry.bundle import Bundle
from rayline.registry.memory import MemoryStore
from rayline.registry.mlflow_store import MlflowStore
from rayline.registry.store import Point, RunStatus, Store, UsedData
from registry_examples import make_bundle, mixed_table


@pytest.fixture(scope="module", params=["memory", "mlflow"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return MlflowStore.open(None, tmp_path_factory.mktemp("a store"))


@pytest.fixture
def run_id(store: Store) -> str:
    return store.start_run("an experiment", "a run", {"kind": "train"})


@pytest.fixture
def name() -> str:
    return f"model-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def bundles(tmp_path: Path, name: str) -> Iterator[Bundle]:
    return (make_bundle(tmp_path, mixed_table(), name=name, seed=seed) for seed in range(9))


def test_a_run_keeps_what_it_was_started_with(store: Store, run_id: str) -> None:
    record = store.run(run_id)

    assert (record.run_id, record.experiment, record.name) == (run_id, "an experiment", "a run")
    assert (record.status, record.parent, record.tags) == ("RUNNING", None, {"kind": "train"})
    assert (record.params, record.metrics, record.datasets, record.files) == ({}, {}, {}, ())


def test_trials_are_nested_below_their_study(store: Store, run_id: str) -> None:
    first = store.start_run("an experiment", "trial 0", {}, run_id)
    second = store.start_run("an experiment", "trial 1", {}, parent=run_id)

    assert set(store.children(run_id)) == {first, second}
    assert store.run(first).parent == run_id
    assert store.children(first) == ()


def test_parameters_are_texts_and_stay_what_they_were(store: Store, run_id: str) -> None:
    store.log_params(run_id, {"train": {"epochs": 3}, **{f"p{number}": number for number in range(150)}})
    store.log_params(run_id, {"train": {"epochs": 3}})

    assert store.run(run_id).params["train.epochs"] == "3"
    assert len(store.run(run_id).params) == 151
    with pytest.raises(TrackingRefused, match=r"train\.epochs"):
        store.log_params(run_id, {"train": {"epochs": 4}})
    assert store.run(run_id).params["train.epochs"] == "3"


def test_metrics_keep_every_step_and_the_last_value(store: Store, run_id: str) -> None:
    points = [Point(f"m{number}", number + step / 10, step, 1_000 + step) for step in range(150) for number in range(8)]

    store.log_metrics(run_id, points)
    store.log_metrics(run_id, [Point("m0", 7.5, 150, 2_000)])
    store.log_metrics(run_id, [])

    record = store.run(run_id)
    assert record.metrics["m0"] == 7.5
    assert record.metrics["m7"] == pytest.approx(21.9)
    assert store.history(run_id, "m3") == tuple((step, 3 + step / 10) for step in range(150))
    assert store.history(run_id, "never") == ()


def test_a_point_that_is_sent_again_is_kept_once(store: Store, run_id: str) -> None:
    points = [Point("loss", 1.0 / step, step, 1_000 * step) for step in range(1, 6)]

    store.log_metrics(run_id, points[:3])
    store.log_metrics(run_id, points)
    store.log_batch(run_id, [*points, Point("loss", float("nan"), 6, 1)], {"a": "b"}, {})
    store.log_batch(run_id, [*points, Point("loss", float("nan"), 6, 1)], {"a": "b"}, {})

    assert [step for step, _ in store.history(run_id, "loss")] == [1, 2, 3, 4, 5, 6]


def test_a_batch_of_any_size_is_kept_whole(store: Store, run_id: str) -> None:
    points = [Point("loss", float(step), step, step) for step in range(2_345)]

    store.log_batch(
        run_id, points, {"train": {f"p{each}": each for each in range(250)}}, {f"t{each}": "x" for each in range(120)}
    )

    record = store.run(run_id)
    assert len(store.history(run_id, "loss")) == 2_345
    assert (len(record.params), record.params["train.p7"], len(record.tags)) == (250, "7", 121)


def test_runs_are_found_by_their_tags_oldest_first_and_can_be_deleted(store: Store, name: str) -> None:
    assert store.find_runs(name, {"key": "a"}) == ()
    parent = store.start_run(name, "first", {"key": "a", "kind": "x"}, None, 1_000)
    child = store.start_run(name, "second", {"key": "a", "kind": "y"}, parent, 2_000)
    store.start_run(f"{name}-other", "third", {"key": "a"})

    assert store.find_runs(name, {"key": "a"}) == (parent, child)
    assert store.find_runs(name, {"key": "a", "kind": "y"}) == (child,)
    assert store.find_runs(name, {"key": "it's"}) == ()

    store.delete_run(child)
    assert store.find_runs(name, {"key": "a"}) == (parent,)


def test_each_part_of_the_data_is_named_by_its_digest_and_rows(store: Store, run_id: str, tmp_path: Path) -> None:
    schema = make_bundle(tmp_path, mixed_table()).features.schema
    rows = {"train": 9, "valid": 2, "test": 3}
    parts = {part: PartFacts(count, part[1] * 32) for part, count in rows.items()}

    store.log_datasets(run_id, DataFacts("/data/mixed.csv", "ab" * 16, rows, schema.fingerprint, (), parts), schema)

    assert store.run(run_id).datasets == {
        "training": UsedData("r" * 32, 9),
        "validation": UsedData("a" * 32, 2),
        "evaluation": UsedData("e" * 32, 3),
    }


def test_data_that_is_not_divided_is_named_as_a_whole(store: Store, run_id: str, tmp_path: Path) -> None:
    schema = make_bundle(tmp_path, mixed_table()).features.schema

    store.log_datasets(run_id, DataFacts("/data/mixed.csv", "ab" * 16, {"train": 9}, schema.fingerprint), schema)

    assert store.run(run_id).datasets == {"training": UsedData("ab" * 16, 9)}


def test_files_texts_and_figures_become_artifacts(store: Store, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json").write_text("{}")
    figure = Figure()
    figure.add_subplot().plot([1, 2])

    store.log_files(run_id, tmp_path, "facts")
    store.log_text(run_id, "name: x", "config.yaml")
    store.log_file(run_id, tmp_path / "deep" / "a.json", "other/b.json")
    store.log_file(run_id, tmp_path / "deep" / "a.json", "a.json")
    store.log_figure(run_id, figure, "plots/loss.png")
    store.log_figure(run_id, figure, "top.svg")

    assert store.run(run_id).files == (
        "a.json",
        "config.yaml",
        "facts/deep/a.json",
        "other/b.json",
        "plots/loss.png",
        "top.svg",
    )


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_ends_as_it_is_told_and_can_be_told_again(store: Store, run_id: str, status: RunStatus) -> None:
    store.finish_run(run_id, status)
    assert store.run(run_id).status == status
    store.finish_run(run_id, "RUNNING")
    assert store.run(run_id).status == "RUNNING"
    store.finish_run(run_id, at_ms=1_000)
    assert store.run(run_id).status == "FINISHED"


def test_tags_are_set_and_replaced(store: Store, run_id: str) -> None:
    store.set_tags(run_id, {"a": "1", "b": "2"})
    store.set_tags(run_id, {"a": "3"})

    assert store.run(run_id).tags == {"kind": "train", "a": "3", "b": "2"}


def test_a_run_that_does_not_exist_is_not_found(store: Store, tmp_path: Path) -> None:
    missing = "0" * 32
    calls = [
        lambda: store.run(missing),
        lambda: store.history(missing, "loss"),
        lambda: store.children(missing),
        lambda: store.log_params(missing, {"a": 1}),
        lambda: store.log_metrics(missing, [Point("a", 1.0, 0, 1)]),
        lambda: store.set_tags(missing, {"a": "1"}),
        lambda: store.log_text(missing, "x", "x.txt"),
        lambda: store.finish_run(missing),
        lambda: store.start_run("an experiment", "trial", {}, missing),
        lambda: store.register(make_bundle(tmp_path, mixed_table(), name="never"), missing),
    ]
    for call in calls:
        with pytest.raises(NotFoundError, match=f"run '{missing}' does not exist"):
            call()
    assert store.versions("never") == ()


def test_versions_are_numbered_from_one(store: Store, run_id: str, bundles: Iterator[Bundle], name: str) -> None:
    first, second = next(bundles), next(bundles)

    one, two = store.register(first, run_id), store.register(second, run_id)

    assert (one.name, one.number, one.uri, one.run_id) == (name, 1, f"models:/{name}/1", run_id)
    assert (two.number, two.uri, two.aliases) == (2, f"models:/{name}/2", ())
    assert (one.digest, two.digest) == (first.digest, second.digest)
    assert 0 < one.created <= two.created
    assert store.versions(name) == (one, two)
    assert name in store.models()


def test_the_same_bundle_of_the_same_run_is_registered_once(
    store: Store, run_id: str, bundles: Iterator[Bundle], name: str
) -> None:
    bundle = next(bundles)
    first = store.register(bundle, run_id)

    assert store.register(bundle, run_id) == first
    assert store.register(bundle, store.start_run("an experiment", "again", {})).number == 2
    assert len(store.versions(name)) == 2


def test_aliases_move(store: Store, run_id: str, bundles: Iterator[Bundle], name: str) -> None:
    for bundle, _ in zip(bundles, range(2), strict=False):
        store.register(bundle, run_id)

    assert store.version(name).number == 2
    store.set_alias(name, "champion", 1)
    store.set_alias(name, "challenger", 2)
    assert store.version(name).number == 1
    assert store.version(name, "@challenger").aliases == ("challenger",)
    store.set_alias(name, "champion", 2)
    assert [version.aliases for version in store.versions(name)] == [(), ("challenger", "champion")]
    store.drop_alias(name, "challenger")
    store.drop_alias(name, "challenger")
    assert [version.aliases for version in store.versions(name)] == [(), ("champion",)]


def test_tags_of_a_version(store: Store, run_id: str, bundles: Iterator[Bundle], name: str) -> None:
    for bundle, _ in zip(bundles, range(2), strict=False):
        store.register(bundle, run_id)

    store.tag_version(name, 1, {"rollout": "aborted", "why": "1 > 0"})
    store.tag_version(name, 1, {"rollout": "done"})

    assert {key: store.version(name, "1").tags[key] for key in ("rollout", "why")} == {
        "rollout": "done",
        "why": "1 > 0",
    }
    assert "rollout" not in store.version(name, "2").tags


def test_what_is_not_there_is_told(store: Store, run_id: str, bundles: Iterator[Bundle], name: str) -> None:
    store.register(next(bundles), run_id)
    missing = [
        (lambda: store.version(name, "9"), "has no version 9. Its versions: 1"),
        (lambda: store.version(name, "@champion"), "has no alias 'champion'"),
        (lambda: store.version(f"{name}x"), f"Did you mean '{name}'"),
        (lambda: store.set_alias(name, "champion", 9), "has no version 9"),
        (lambda: store.tag_version(name, 9, {"a": "b"}), "has no version 9"),
        (lambda: store.drop_alias(f"{name}x", "champion"), "has no registered version"),
    ]
    for call, rule in missing:
        with pytest.raises(NotFoundError) as refused:
            call()
        assert rule in str(refused.value)
    assert store.versions("it's not there") == ()
    with pytest.raises(UsageError, match="Did you mean 'champion'"):
        store.set_alias(name, "champoin", 1)


def test_a_fetched_bundle_is_the_one_that_was_registered(
    store: Store, run_id: str, bundles: Iterator[Bundle], tmp_path: Path
) -> None:
    bundle = next(bundles)
    version = store.register(bundle, run_id)

    path = store.fetch(version, tmp_path / "served")

    assert Bundle.load(path).digest == bundle.digest
    assert path == store.fetch(version, tmp_path / "served")
    assert [entry.name for entry in (tmp_path / "served").iterdir()] == [path.name]


def test_a_fetched_bundle_that_was_changed_is_refused(
    store: Store, run_id: str, bundles: Iterator[Bundle], tmp_path: Path
) -> None:
    one, two = store.register(next(bundles), run_id), store.register(next(bundles), run_id)
    path = store.fetch(one, tmp_path)
    (path / "lineage.json").write_text(json.dumps({"data_digest": "another"}))

    with pytest.raises(BundleError, match=r"lineage\.json was changed"):
        store.fetch(one, tmp_path)

    store.fetch(two, tmp_path).rename(tmp_path / "two")
    path.rename(tmp_path / "one")
    (tmp_path / "two").rename(path)
    with pytest.raises(BundleError, match="was registered as"):
        store.fetch(one, tmp_path)


def test_files_of_a_run_come_back_and_others_do_not_come_along(store: Store, tmp_path: Path) -> None:
    run = store.start_run("e", "r", {})
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "page.html").write_text("<p>é</p>", encoding="utf-8")
    store.log_files(run, folder, "card")
    store.log_text(run, "else", "other.txt")
    found = store.fetch_files(run, "card", tmp_path / "into")
    assert [file.name for file in found.iterdir()] == ["page.html"]
    assert (found / "page.html").read_text(encoding="utf-8") == "<p>é</p>"
    with pytest.raises(NotFoundError):
        store.fetch_files(run, "none", tmp_path / "into")
