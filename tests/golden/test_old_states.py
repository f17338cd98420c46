"""States and bundles that an older Rayline wrote: they load, and give the very numbers that they gave then.

``rollout_format_1.json`` was made by revision d27e5dd: a canary at 10 % in the middle of its first analysis.
``features_format_1.json`` and ``bundle_of_format_1`` were made by revision 3ee93d6: a state of each of its four kinds,
40 request rows, the numbers that it made of them (float32, as bytes) and the predictions of an untrained network.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rayline.errors import SchemaError, ServiceError
from rayline.features.transform import FittedFeatureSet
from rayline.registry.bundle import Bundle
from rayline.rollout.policy.policy import Seen, decide
from rayline.rollout.state import FORMAT, RolloutState

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def then() -> dict[str, Any]:
    values: dict[str, Any] = json.loads((HERE / "features_format_1.json").read_text(encoding="utf-8"))
    return values


@pytest.fixture(scope="module")
def matrix(then: dict[str, Any]) -> np.ndarray:
    return np.stack([np.frombuffer(bytes.fromhex(row), dtype=np.float32) for row in then["matrix"]])


def test_the_stored_state_is_of_format_1_and_has_its_four_kinds(then: dict[str, Any]) -> None:
    assert then["state"]["format"] == 1
    assert {column["kind"] for column in then["state"]["columns"]} == {"numeric", "categorical", "boolean", "datetime"}


@pytest.mark.parametrize("kind", ["numeric", "categorical", "boolean", "datetime"])
def test_a_state_of_format_1_gives_the_same_numbers(kind: str, then: dict[str, Any], matrix: np.ndarray) -> None:
    features = FittedFeatureSet.from_json(then["state"])
    rows = then["rows"]
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    own = [column.output_names for column in features.columns if column.kind == kind]
    places = [features.output_names.index(name) for names in own for name in names]

    assert list(features.output_names) == then["outputs"]
    assert places
    assert features.rows(rows)[:, places].tobytes() == matrix[:, places].tobytes()
    assert features.transform(table)[:, places].tobytes() == matrix[:, places].tobytes()


def test_a_state_of_format_1_becomes_one_of_today(then: dict[str, Any], matrix: np.ndarray) -> None:
    written = FittedFeatureSet.from_json(then["state"]).to_json()

    again = FittedFeatureSet.from_json(json.loads(json.dumps(written)))

    assert written["format"] > 1
    assert again.rows(then["rows"]).tobytes() == matrix.tobytes()


def test_a_bundle_of_format_1_answers_as_it_did(then: dict[str, Any], tmp_path: Path) -> None:
    bundle = Bundle.load(shutil.copytree(HERE / "bundle_of_format_1", tmp_path / "old"))

    assert bundle.manifest.features == then["fingerprint"]
    single = np.finfo(np.float32).eps  # an answer is rounded to it, so that a row gets the same in every batch
    np.testing.assert_allclose(bundle.predictor().predict(then["rows"]).values, then["predictions"], rtol=single)


def test_a_state_of_a_newer_format_says_what_to_do(then: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match=r"format 99 is unknown: .* Use the Rayline that wrote it, or make it anew"):
        FittedFeatureSet.from_json({**then["state"], "format": 99})


def test_a_rollout_of_format_1_goes_on_where_it_was() -> None:
    state = RolloutState.from_json(json.loads((HERE / "rollout_format_1.json").read_text(encoding="utf-8")))
    assert (state.phase, state.weight, state.step, state.to_json()["format"]) == ("Progressing", 10, 1, FORMAT)
    run = state.analysis
    assert run is not None
    assert run.baseline is not None
    assert [tally.successful for tally in run.tallies] == [1, 1]

    after = decide(state, Seen(observation=run.baseline), run.due)

    assert after.analysis is not None
    assert after.analysis.rounds == 2
    assert after.analysis.tallies[0].last is not None
    assert "too few samples" in after.analysis.tallies[0].last.reason


def test_a_rollout_of_an_unknown_format_is_refused() -> None:
    with pytest.raises(ServiceError, match="has format 99; this version of Rayline reads 1 and 2"):
        RolloutState.from_json({"format": 99})
