"""A bundle loads where nothing of the training side is: no torch for the MLP, no user code, no pickle at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from rayline.model import build_module
from rayline.registry.bundle import Bundle, write_bundle
from registry_examples import USER_MODULE, fitted, make_bundle, mixed_table, model_config, parts, real_table

ASK = """
import json, sys
from pathlib import Path

unpickled = []
sys.addaudithook(lambda event, arguments: unpickled.append(arguments) if event == "pickle.find_class" else None)

from rayline.registry.bundle import Bundle

bundle = Bundle.load(sys.argv[1])
predictor = bundle.predictor()
found = predictor.predict(json.loads(Path(sys.argv[2]).read_text()))
loaded = [name for name in sys.argv[3].split(",") if name in sys.modules]
print(json.dumps({"values": found.values.tolist(), "unpickled": repr(unpickled), "loaded": loaded}))
"""


def answered_elsewhere(bundle: Bundle, rows: list[dict], forbidden: str, folder: Path) -> dict:
    """Ask the bundle in another process, whose folder and path hold no user code."""
    (folder / "rows.json").write_text(json.dumps(rows, default=str))
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(bundle.path), str(folder / "rows.json"), forbidden],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_mlp_is_served_without_torch_ray_mlflow_pandas_or_arrow(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, mixed_table())
    rows = mixed_table().slice(0, 20).to_pylist()

    answer = answered_elsewhere(bundle, rows, "torch,ray,mlflow,pandas,pyarrow,sklearn,rayline.training", tmp_path)

    assert answer["loaded"] == []
    assert answer["unpickled"] == "[]"
    np.testing.assert_allclose(answer["values"], bundle.predictor().predict(rows).values, rtol=1e-12)


@pytest.fixture
def user_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle of a user's own module; its code is importable here only."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "gated_model.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    table = real_table("multiclass")
    features = fitted(table)
    model = model_config(builder="gated_model:build", options={"width": 12})
    module = build_module(model, features.layout, 3)
    (tmp_path / "checkpoint").mkdir()
    save_file(module.state_dict(), tmp_path / "checkpoint" / "model.safetensors")
    return write_bundle(
        tmp_path / "bundle", **parts(features, table, tmp_path / "checkpoint") | {"model": model, "name": "gated"}
    )


def test_a_users_module_is_served_without_its_code_and_without_pickle(user_bundle: Bundle, tmp_path: Path) -> None:
    rows = real_table("multiclass").to_pylist()
    here = user_bundle.predictor().predict(rows)

    answer = answered_elsewhere(user_bundle, rows, "gated_model,ray,mlflow,rayline.training", tmp_path)

    assert answer["loaded"] == []
    assert answer["unpickled"] == "[]"
    assert answer["values"] == here.values.tolist()


def test_a_users_module_answers_a_row_alone_as_in_a_batch(user_bundle: Bundle) -> None:
    predictor = user_bundle.predictor()
    rows = real_table("multiclass").slice(0, 40).to_pylist()

    alone = np.concatenate([predictor.predict([row]).probabilities for row in rows])

    np.testing.assert_allclose(alone, predictor.predict(rows).probabilities, atol=1e-6)


def test_nothing_of_the_users_code_or_folders_is_in_the_bundle(user_bundle: Bundle) -> None:
    content = b"".join(path.read_bytes() for path in user_bundle.path.iterdir())

    assert b"Gated" not in content
    assert b"self.norm" not in content
    assert str(user_bundle.path.parent).encode() not in content
