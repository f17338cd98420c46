"""Which engine runs a version's network: what is asked for, or what measured faster and agrees."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rayline.errors import ConfigError, EnvironmentFailed
from rayline.registry.networks.mlp import MlpNetwork
from rayline.registry.networks.onnx_engine import OnnxNetwork
from rayline.registry.predictor import Predictor
from rayline.serving.traffic.plan import LiveVersion
from rayline.serving.versions import execution
from rayline.serving.versions.execution import chosen, compared
from rayline.serving.versions.served import Served
from registry_examples import make_bundle, real_table


def network(*sizes: int) -> MlpNetwork:
    random = np.random.default_rng(3)
    pairs = pairwise(sizes)
    return MlpNetwork(tuple((random.normal(0, a**-0.5, (a, b)), random.normal(size=b)) for a, b in pairs))


@pytest.mark.parametrize("sizes", [(4, 1), (30, 64, 32, 1), (7, 16, 16, 16, 5)])
@pytest.mark.parametrize("rows", [1, 2, 64, 100])
def test_onnx_runtime_gives_the_answers_of_the_weights(sizes: tuple[int, ...], rows: int) -> None:
    own = network(*sizes)
    matrix = np.random.default_rng(rows).normal(size=(rows, sizes[0])).astype(np.float32)
    found = OnnxNetwork.of(own, 1)(matrix)
    assert found.dtype == np.float64
    assert np.allclose(found, own(matrix), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return make_bundle(tmp_path_factory.mktemp("bundle"), real_table("binary")).predictor()


@pytest.fixture
def matrix(predictor: Predictor) -> np.ndarray:
    return np.zeros((1, predictor.features.width), dtype=np.float32)


def test_each_engine_can_be_asked_for(predictor: Predictor, matrix: np.ndarray) -> None:
    assert chosen(predictor, matrix, "numpy").engine == "numpy"
    found = chosen(predictor, matrix, "onnx")
    assert (found.engine, type(found.predictor.network)) == ("onnx", OnnxNetwork)
    assert "64 rows: numpy" in found.why
    with pytest.raises(ConfigError, match="without torch"):
        chosen(predictor, matrix, "torch")


@pytest.mark.parametrize(("seconds", "engine"), [((1.0, 0.5), "onnx"), ((1.0, 0.9), "numpy"), ((1.0, 2.0), "numpy")])
def test_auto_takes_what_saves_enough(
    predictor: Predictor,
    matrix: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    seconds: tuple[float, float],
    engine: str,
) -> None:
    own, other = seconds
    monkeypatch.setattr(execution, "_seconds", lambda net, _: own if isinstance(net, MlpNetwork) else other)
    assert chosen(predictor, matrix, "auto").engine == engine


def test_an_engine_that_does_not_agree_is_not_taken(
    predictor: Predictor, matrix: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "_seconds", lambda net, _: 1.0 if isinstance(net, MlpNetwork) else 0.1)
    monkeypatch.setattr(OnnxNetwork, "__call__", lambda self, rows: np.full((len(rows), 1), 7.0))
    assert chosen(predictor, matrix, "auto").engine == "numpy"
    with pytest.raises(ConfigError, match="answers are not the bundle's own"):
        chosen(predictor, matrix, "onnx")
    assert not compared(predictor.network, lambda rows: np.full((len(rows), 1), np.nan), matrix).agrees


def test_without_onnx_runtime_auto_is_numpy_and_onnx_says_how_to_get_it(
    predictor: Predictor, matrix: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert chosen(predictor, matrix, "auto").engine == "numpy"
    with pytest.raises(EnvironmentFailed, match=r"pip install 'rayline\[onnx\]'"):
        chosen(predictor, matrix, "onnx")


def test_a_version_on_another_engine_answers_as_its_bundle(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", real_table("binary"))
    served = Served.load("churn", LiveVersion(1, str(bundle.path), bundle.digest), (), execution="onnx")
    rows = [dict(row) for row in bundle.example]
    [found] = served.predict_many([rows])
    assert not isinstance(found, Exception)
    expected = bundle.predictor().predict(rows)
    assert served.engine[0] == "onnx"
    assert found.outcomes == expected.outcomes
    assert np.allclose(found.probabilities, expected.probabilities, atol=1e-5)
