"""Files of scikit-learn and XGBoost that were changed are refused before they can run code or leave their memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.preprocessing import FunctionTransformer
from skops import io as skops

from rayline.config import ModelConfig
from rayline.errors import BundleError, ConfigError, EnvironmentFailed
from rayline.libraries.scikit import outputs_of
from rayline.libraries.scikit_kept import packed
from rayline.registry.networks.booster import BoosterNetwork
from rayline.registry.networks.estimator import EstimatorNetwork

INPUTS, CLASSES = 4, 3
CHANCE = np.random.default_rng(3)
X = CHANCE.normal(size=(150, INPUTS))
Y = np.digitize(X[:, 0] + 0.3 * CHANCE.normal(size=150), [-0.5, 0.5])

KINDS: dict[str, Callable[[], Any]] = {
    "forest": partial(RandomForestClassifier, 5, max_depth=3, random_state=0),
    "stages": partial(GradientBoostingClassifier, n_estimators=4, random_state=0),
    "hist": partial(HistGradientBoostingClassifier, max_iter=4, random_state=0),
    "bag": partial(BaggingClassifier, n_estimators=4, max_features=0.5, random_state=0),
}


@cache
def fitted(kind: str) -> Any:
    return KINDS[kind]().fit(X, Y)


def loaded(content: bytes) -> EstimatorNetwork:
    return EstimatorNetwork.from_skops(content, INPUTS, CLASSES, "multiclass", "model.skops")


def rewritten(content: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """Return a skops file each of whose entries went through ``change``."""
    out, source = io.BytesIO(), zipfile.ZipFile(io.BytesIO(content))
    with zipfile.ZipFile(out, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, change(name, source.read(name)))
    return out.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_kept_answers_as_before(kind: str) -> None:
    network = loaded(packed(fitted(kind), kind))
    found = network(X.astype(np.float32))
    shares = np.maximum(fitted(kind).predict_proba(X.astype(np.float32).astype(np.float64)), 1e-15)
    np.testing.assert_allclose(found, np.log(shares), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", ["left", "feature"])
def test_a_tree_that_leads_out_of_its_memory_is_refused(kind: str, field: str) -> None:
    """Without the check scikit-learn reads, or writes, memory that is not the tree's."""

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith(".npy"):
            return data
        array = np.load(io.BytesIO(data), allow_pickle=False)
        names = {"left": ("left_child", "left"), "feature": ("feature", "feature_idx")}[field]
        for each in set(names) & set(array.dtype.names or ()):
            inner = array["is_leaf"] == 0 if "is_leaf" in array.dtype.names else array["left_child"] != -1
            array[each][inner] = 1_000_000
        out = io.BytesIO()
        np.save(out, array)
        return out.getvalue()

    with pytest.raises(BundleError, match=r"model\.skops: a tree (leads out of itself|asks for an input)"):
        loaded(rewritten(packed(fitted(kind), kind), change))


def test_a_stage_with_too_many_trees_is_refused() -> None:
    """Without the check scikit-learn writes behind the answer's end."""
    changed = GradientBoostingClassifier(n_estimators=4, random_state=0).fit(X, Y)
    changed.estimators_ = np.concatenate([changed.estimators_, changed.estimators_], axis=1)
    with pytest.raises(BundleError, match=r"stages do not give 3 numbers each"):
        loaded(skops.dumps(changed))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ('"sklearn.ensemble._forest"', '"os.path"'),
        ('"sklearn.ensemble._forest"', '"sklearn.feature_extraction.text"'),
        ('"__loader__": "ObjectNode"', '"__loader__": "MethodNode"'),
        ('"__loader__": "TreeNode"', '"__loader__": "FunctionNode"'),
        ('"__loader__": "TreeNode"', '"__loader__": "ObjectNode"'),
        ('"__loader__": "NdArrayNode"', '"__loader__": "PartialNode"'),
        ('"__class__": "RandomForestClassifier"', '"__class__": "SVC"'),
    ],
)
def test_a_type_that_is_off_the_list_is_refused_before_anything_is_made(ours: str, theirs: str) -> None:
    content = packed(fitted("forest"), "forest")
    schema = zipfile.ZipFile(io.BytesIO(content)).read("schema.json").decode()
    assert ours in schema
    changed = rewritten(
        content, lambda name, data: schema.replace(ours, theirs).encode() if name == "schema.json" else data
    )
    with pytest.raises(BundleError, match=r"^model\.skops: .*(not on the list|cannot be loaded)"):
        loaded(changed)


def test_a_function_is_refused() -> None:
    with pytest.raises(BundleError, match="not on the list of what may load"):
        loaded(skops.dumps(FunctionTransformer(subprocess.getoutput).fit(X)))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_skops_file_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"^model\.skops: the estimator is damaged"):
        loaded(content)


def test_an_archive_that_grows_without_measure_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 100_000_000)
    with pytest.raises(BundleError, match=r"damaged: [\d,]+ bytes unpack to 100,000,000"):
        loaded(out.getvalue())


def test_an_estimator_of_other_features_or_another_task_is_refused() -> None:
    content = packed(fitted("forest"), "forest")
    with pytest.raises(BundleError, match="takes 4 numbers, and the features give 5"):
        EstimatorNetwork.from_skops(content, 5, CLASSES, "multiclass", "model.skops")
    with pytest.raises(BundleError, match="does not answer"):
        EstimatorNetwork.from_skops(content, INPUTS, 1, "binary", "model.skops")


def test_a_class_that_the_training_part_lacked_gets_the_least_probability() -> None:
    seen = Y != 1
    estimator = KINDS["forest"]().fit(X[seen], Y[seen])
    found = outputs_of(estimator, X.astype(np.float32), "multiclass", CLASSES)
    np.testing.assert_allclose(found[:, 1], np.log(1e-15))
    assert np.isfinite(found).all()


@cache
def booster(task: str = "multiclass") -> bytes:
    import xgboost

    settings = {"objective": "multi:softprob", "num_class": CLASSES} if task == "multiclass" else {}
    model = xgboost.train({"max_depth": 3, "verbosity": 0, **settings}, xgboost.DMatrix(X, label=Y), 5)
    return bytes(model.save_raw("json"))


def boosted(content: bytes) -> BoosterNetwork:
    return BoosterNetwork.from_json(content, INPUTS, CLASSES, "multiclass", "model.json")


def test_a_booster_answers_as_xgboost_does() -> None:
    import xgboost

    model = xgboost.Booster()
    model.load_model(bytearray(booster()))
    expected = model.predict(xgboost.DMatrix(X.astype(np.float32)), output_margin=True)
    np.testing.assert_array_equal(boosted(booster())(X.astype(np.float32)), expected.astype(np.float64))


def tree(model: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = model["learner"]["gradient_booster"]["model"]["trees"][0]
    return first


def inner(model: dict[str, Any]) -> int:
    return next(at for at, child in enumerate(tree(model)["left_children"]) if child != -1)


def put(model: dict[str, Any], name: str, value: Any) -> None:
    tree(model)[name][inner(model)] = value


def forest(model: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = model["learner"]["gradient_booster"]["model"]
    return found


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "child": lambda model: put(model, "left_children", 10_000),
    "loop": lambda model: put(model, "right_children", 0),
    "one child": lambda model: put(model, "left_children", -1),
    "feature": lambda model: put(model, "split_indices", INPUTS),
    "negative feature": lambda model: put(model, "split_indices", -1),
    "fraction": lambda model: put(model, "left_children", 1.5),
    "huge number": lambda model: put(model, "split_conditions", 1e300),
    "text": lambda model: put(model, "split_conditions", "import os"),
    "category": lambda model: put(model, "split_type", 1),
    "parent": lambda model: put(model, "parents", 3),
    "nodes": lambda model: tree(model)["tree_param"].update(num_nodes="4000000000"),
    "short": lambda model: tree(model)["base_weights"].pop(),
    "leaf vector": lambda model: tree(model)["tree_param"].update(size_leaf_vector="7"),
    "group": lambda model: forest(model)["tree_info"].__setitem__(0, 3),
    "rounds": lambda model: forest(model)["iteration_indptr"].__setitem__(-1, 10_000),
    "trees": lambda model: forest(model)["gbtree_model_param"].update(num_trees="1"),
    "booster": lambda model: model["learner"]["gradient_booster"].update(name="gblinear"),
    "objective": lambda model: model["learner"]["objective"].update(name="count:poisson"),
    "features": lambda model: model["learner"]["learner_model_param"].update(num_feature="99"),
    "classes": lambda model: model["learner"]["learner_model_param"].update(num_class="99"),
    "base score": lambda model: model["learner"]["learner_model_param"].update(base_score="[NaN,0,0]"),
    "no learner": lambda model: model.pop("learner"),
    "no trees": lambda model: forest(model).update(trees=[], tree_info=[]),
    "list": lambda model: model.update(learner=[]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_booster_is_refused(change: str) -> None:
    model = json.loads(booster())
    CHANGES[change](model)
    with pytest.raises(BundleError, match=r"^model\.json"):
        boosted(json.dumps(model).encode())


@pytest.mark.parametrize("content", [b"", b"binf\x00\x00", b"{L\x00\x00", b"[1, 2]", b"[" * 100_000, b'{"learner": 1}'])
def test_what_is_no_json_model_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"^model\.json is no JSON model of XGBoost"):
        boosted(content)


def test_the_binary_form_of_a_booster_is_refused() -> None:
    import xgboost

    model = xgboost.Booster()
    model.load_model(bytearray(booster()))
    with pytest.raises(BundleError, match="is no JSON model of XGBoost"):
        boosted(bytes(model.save_raw("ubj")))


def test_a_booster_for_another_task_is_refused() -> None:
    with pytest.raises(BundleError, match="'reg:squarederror' does not fit a multiclass task"):
        boosted(booster("regression"))


def test_without_its_package_a_booster_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from rayline.libraries import refuse_options

    content = booster()
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(EnvironmentFailed, match=r"pip install 'rayline\[xgboost\]'"):
        boosted(content)
    with pytest.raises(EnvironmentFailed, match=r"pip install 'rayline\[xgboost\]'"):
        refuse_options(ModelConfig(builder="xgboost"), "binary")


def test_what_skops_cannot_write_is_told_at_the_training() -> None:
    estimator = KINDS["forest"]().fit(X, Y)
    estimator.extra = lambda: 1
    with pytest.raises(ConfigError, match=r"'forest' cannot be kept without pickle"):
        packed(estimator, "forest")
