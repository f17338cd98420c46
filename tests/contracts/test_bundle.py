"""The Bundle: what is written comes back, and nothing that is not exactly that is loaded."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from rayline.config import CategoricalConfig, FeaturesConfig
from rayline.errors import BundleError, NotFoundError, RowError
from rayline.features.feature_set import FeatureSet
from rayline.features.schemas.inference import schema_for
from rayline.registry.bundle import Bundle, write_bundle
from rayline.registry.manifest import FORMAT, MANIFEST
from registry_examples import fitted, make_bundle, mixed_table, model_config, parts, real_table, weights


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("made"), mixed_table())


@pytest.fixture
def copy(made: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.path, tmp_path / "copy"))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_loaded_bundle_answers_as_the_weights_say(task: str, tmp_path: Path) -> None:
    table = real_table(task)
    bundle = Bundle.load(make_bundle(tmp_path, table).path)
    features = fitted(table)
    tensors = weights(features.width, 3 if task == "multiclass" else 1)
    state = features.transform(table).astype(np.float64)
    for index in range(3):
        state = state @ tensors[f"layers.{index}.weight"].T.astype(np.float64) + tensors[f"layers.{index}.bias"]
        state = np.maximum(state, 0) if index < 2 else state

    found = bundle.predictor().predict_table(table)

    assert bundle.task == task
    if task == "regression":
        np.testing.assert_allclose(
            found.values, state[:, 0] * features.target_std + features.target_mean, rtol=2.0**-23
        )
    else:
        logits = np.column_stack([np.zeros(len(state)), state[:, 0]]) if task == "binary" else state
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found.probabilities, shares, atol=1e-6)
        assert found.labels == features.classes


def test_state_comes_back_as_it_went_in(made: Bundle) -> None:
    loaded = Bundle.load(made.path)

    assert loaded.features.to_json() == fitted(mixed_table()).to_json()
    assert loaded.lineage == {"data_digest": "d" * 32, "rows": {"train": 120}}
    assert loaded.example[0]["town"] == "Bern"
    assert loaded.example[0]["at"] == "2024-01-01T00:00:00"
    assert loaded.digest == made.digest


def test_the_digest_names_the_content_and_not_the_place(made: Bundle, copy: Path, tmp_path: Path) -> None:
    assert Bundle.load(copy).digest == made.digest
    assert make_bundle(tmp_path, mixed_table()).digest == made.digest
    assert make_bundle(tmp_path, mixed_table(), seed=1).digest != made.digest


def test_a_row_alone_and_in_a_batch_and_in_a_table_get_the_same_answer(made: Bundle) -> None:
    table, predictor = mixed_table(), made.predictor()
    rows = table.to_pylist()

    alone = np.array([predictor.predict([row]).values[0] for row in rows])

    np.testing.assert_allclose(alone, predictor.predict(rows).values, rtol=1e-12)
    np.testing.assert_allclose(alone, predictor.predict_table(table).values, rtol=1e-12)


def test_a_bad_row_is_named(made: Bundle) -> None:
    rows = mixed_table().slice(0, 3).to_pylist()
    del rows[2]["grade"]

    with pytest.raises(RowError, match="grade") as refused:
        made.predictor().predict(rows)

    assert refused.value.row == 2


@pytest.fixture(scope="module")
def many_levels(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose one column has 900 levels, of which the features keep 500."""
    steps = range(3_000)
    table = pa.table({"town": [f"town {step % 900}" for step in steps], "target": [step * 0.5 for step in steps]})
    config = FeaturesConfig(target="target", columns={"town": CategoricalConfig(max_levels=500)})
    features = FeatureSet.from_config(config, schema_for(config, table)).fit(table)
    folder = tmp_path_factory.mktemp("levels")
    save_file(weights(features.width, 1), folder / "model.safetensors")
    return write_bundle(folder / "bundle", **parts(features, table, folder))


def test_long_lists_lie_in_an_arrow_file_and_the_rest_is_short(many_levels: Bundle, made: Bundle) -> None:
    loaded = Bundle.load(many_levels.path)

    assert (many_levels.path / "features.json").stat().st_size < 2_000
    assert "features.arrow" in loaded.manifest.files
    assert loaded.features.fingerprint == loaded.manifest.features == many_levels.features.fingerprint
    assert len(loaded.features.output_names) == 502
    assert loaded.predictor().predict([{"town": "town 7"}, {"town": None}]).finite.all()
    assert "features.arrow" not in made.manifest.files


def test_a_bundle_without_its_arrow_file_is_refused(many_levels: Bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(many_levels.path, tmp_path / "copy"))
    (copy / "features.arrow").write_bytes((copy / "features.arrow").read_bytes()[:-8])
    with pytest.raises(BundleError, match=r"features\.arrow was changed"):
        Bundle.load(copy)

    values = json.loads((copy / MANIFEST).read_text())
    del values["files"]["features.arrow"]
    (copy / MANIFEST).write_text(json.dumps(values))
    (copy / "features.arrow").unlink()
    with pytest.raises(BundleError, match=r"features\.json cannot be used: .* which its Arrow file does not hold"):
        Bundle.load(copy)


def test_an_arrow_file_that_is_damaged_is_refused(many_levels: Bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(many_levels.path, tmp_path / "copy"))
    content = b"ARROW1\0\0" + b"\xff" * 64
    (copy / "features.arrow").write_bytes(content)
    values = json.loads((copy / MANIFEST).read_text())
    values["files"]["features.arrow"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (copy / MANIFEST).write_text(json.dumps(values))

    with pytest.raises(BundleError, match="Arrow file is damaged"):
        Bundle.load(copy)


def tamper(folder: Path) -> str:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return "model.safetensors was changed"


def cut(folder: Path) -> str:
    path = folder / "reference.json"
    path.write_bytes(path.read_bytes()[:-1])
    return "reference.json was changed"


def lose(folder: Path) -> str:
    (folder / "features.json").unlink()
    return "features.json is missing"


def add(folder: Path) -> str:
    (folder / "setup.py").write_text("print()")
    return "setup.py is not in the manifest"


def link(folder: Path) -> str:
    path = folder / "lineage.json"
    path.rename(folder.parent / "elsewhere.json")
    path.symlink_to(folder.parent / "elsewhere.json")
    return "lineage.json is a link"


def lose_manifest(folder: Path) -> str:
    (folder / MANIFEST).unlink()
    return "manifest.json is missing"


def edited(change: Callable[[dict], None], rule: str) -> Callable[[Path], str]:
    def edit(folder: Path) -> str:
        values = json.loads((folder / MANIFEST).read_text())
        change(values)
        (folder / MANIFEST).write_text(json.dumps(values))
        return rule

    return edit


def traverse(values: dict) -> None:
    values["files"]["../copy/model.safetensors"] = values["files"].pop("model.safetensors")


def admit_code(values: dict) -> None:
    values["files"]["model.py"] = values["files"]["model.safetensors"]


def two_networks(values: dict) -> None:
    values["files"]["model.pt2"] = values["files"]["model.safetensors"]


def without_reference(values: dict) -> None:
    del values["files"]["reference.json"]


@pytest.mark.parametrize(
    "damage",
    [
        tamper,
        cut,
        lose,
        add,
        link,
        lose_manifest,
        edited(traverse, r"lists '\.\./copy/model\.safetensors', which no bundle may hold"),
        edited(admit_code, "lists 'model.py', which no bundle may hold"),
        edited(two_networks, r"it lists model\.pt2 and model\.safetensors"),
        edited(without_reference, "does not list reference.json"),
        edited(
            lambda values: values.update(format="rayline-bundle/2"), "the format 'rayline-bundle/2'.*rayline-bundle/1"
        ),
        edited(lambda values: values.pop("format"), "the format None"),
        edited(
            lambda values: values.update(features="0" * 16), r"features\.json has the fingerprint .* trained on 0{16}"
        ),
        edited(lambda values: values.update(task="binary"), r"features\.json is for regression"),
        edited(lambda values: values.update(more=1), r"manifest\.json is damaged"),
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_bundle_is_refused_by_the_name_of_the_file(copy: Path, damage: Callable[[Path], str]) -> None:
    rule = damage(copy)

    with pytest.raises(BundleError, match=rule) as refused:
        Bundle.load(copy)

    assert str(copy) in str(refused.value)


def test_a_network_swapped_after_the_check_is_refused(copy: Path) -> None:
    bundle = Bundle.load(copy)
    tamper(copy)

    with pytest.raises(BundleError, match=r"model\.safetensors was changed"):
        bundle.predictor()


def test_a_bundle_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        Bundle.load(tmp_path / "none")


def test_weights_of_other_features_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    features = fitted(mixed_table())
    (tmp_path / "checkpoint").mkdir()
    save_file(weights(features.width + 1, 1), tmp_path / "checkpoint" / "model.safetensors")

    with pytest.raises(BundleError, match=f"layer 0 takes {features.width + 1} numbers, and the features give"):
        write_bundle(tmp_path / "out", **parts(features, mixed_table(), tmp_path / "checkpoint"))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_a_checkpoint_without_weights_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"has no model\.safetensors"):
        write_bundle(tmp_path / "out", **parts(fitted(mixed_table()), mixed_table(), tmp_path))


def test_an_example_that_the_model_cannot_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="size"):
        make_bundle(tmp_path, mixed_table(), example=[{"count": 1}])


def test_writing_again_replaces_the_bundle_and_nothing_else(made: Bundle, copy: Path, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    arguments = parts(fitted(mixed_table()), mixed_table(), made.path, "another")

    assert write_bundle(copy, **arguments).name == "another"
    with pytest.raises(BundleError, match="exists and is no bundle"):
        write_bundle(tmp_path / "foreign", **arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "foreign"]


@pytest.mark.parametrize("name", ["Upper", "../up", "", "a" * 64, "-a"])
def test_a_name_out_of_pattern_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="must be up to 63 lower-case letters"):
        make_bundle(tmp_path, mixed_table(), name=name)


def test_the_manifest_tells_what_the_model_is(made: Bundle) -> None:
    values = json.loads((made.path / MANIFEST).read_text())

    assert values["format"] == FORMAT
    assert values["model"] == {"builder": "mlp", "hidden": [16, 8], "dropout": 0.0, "options": {}}
    assert model_config(**values["model"]) == model_config(hidden=[16, 8])
