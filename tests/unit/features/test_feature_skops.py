"""A transformer that scikit-learn itself runs is kept without pickle, and nothing beyond a list of our own loads."""

from __future__ import annotations

import base64
import io
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from sklearn.decomposition import PCA

from rayline.config import FeaturesConfig, SklearnConfig
from rayline.errors import BundleError
from rayline.features.bridges.skops_state import packed, unpacked
from rayline.features.feature_set import FeatureSet
from rayline.features.schemas.inference import schema_for
from rayline.features.transform import FittedFeatureSet


def kind(transformer: str) -> FittedFeatureSet:
    chance = np.random.default_rng(5)
    a, b, y = chance.normal(size=(3, 60))
    table = pa.table({"a": pa.array(a, mask=a > 1), "b": b, "y": y})
    features = FeaturesConfig(target="y", columns={"s": SklearnConfig(transformer=transformer, inputs=("a", "b"))})
    return FeatureSet.from_config(features, schema_for(features, table)).fit(table)


def test_a_kept_transformer_loads_nothing_that_is_not_on_the_list() -> None:
    text = packed(PCA(1).fit(np.arange(12.0).reshape(6, 2) ** 2), "here")
    data = zipfile.ZipFile(io.BytesIO(base64.b64decode(text)))
    schema = data.read("schema.json").decode()
    for ours, theirs in [
        ('"sklearn.decomposition._pca"', '"os.path"'),
        ('"__loader__": "ObjectNode"', '"__loader__": "MethodNode"'),
        ('"__class__": "PCA"', '"__class__": "Unknown"'),
    ]:
        assert ours in schema
        changed = io.BytesIO()
        with zipfile.ZipFile(changed, "w") as archive:
            for each in data.namelist():
                archive.writestr(each, schema.replace(ours, theirs) if each == "schema.json" else data.read(each))
        with pytest.raises(BundleError, match=r"not on the list|cannot be loaded"):
            unpacked(base64.b64encode(changed.getvalue()).decode())
    for damaged in ("no base64!", text[: len(text) // 2 // 4 * 4], base64.b64encode(b"nothing").decode()):
        with pytest.raises(BundleError, match="damaged"):
            unpacked(damaged)


def test_kept_transformers_are_loaded_elsewhere_without_pickle() -> None:
    names = ("decomposition:PCA", "preprocessing:SplineTransformer", "impute:KNNImputer")
    kept = [kind(f"sklearn.{name}") for name in names]
    code = (
        "import json, sys; found = []; "
        "sys.addaudithook(lambda event, parts: found.append(parts) if event == 'pickle.find_class' else None); "
        "from rayline.features.transform import FittedFeatureSet; "
        "kept = [FittedFeatureSet.from_json(each) for each in json.loads(sys.stdin.read())]; "
        "print(json.dumps([[each.row({'a': None, 'b': 2}).tolist() for each in kept], repr(found)]))"
    )
    states = json.dumps([each.to_json() for each in kept])
    done = subprocess.run([sys.executable, "-c", code], input=states, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[each.row({"a": None, "b": 2}).tolist() for each in kept], "[]"]


def test_a_state_that_may_not_load_is_refused_at_once() -> None:
    raw = kind("sklearn.decomposition:PCA").to_json()
    raw["columns"][0]["skops"] = base64.b64encode(pickle.dumps(PCA())).decode()
    with pytest.raises(BundleError, match="damaged"):
        FittedFeatureSet.from_json(raw)
