"""The real clients of the protocols that a service speaks, against one replica's application on a real HTTP server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from live_app import listening
from protocol_app import App

CASES = ("binary", "multiclass", "regression", "mixed", "arrays")
KINDS = {"FP64": np.float64, "FP32": np.float32, "BOOL": np.bool_, "BYTES": np.object_}


@pytest.fixture(scope="module", params=CASES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, Any]]:
    app = App(tmp_path_factory.mktemp(request.param), request.param)
    with listening(app.endpoint) as port:
        client = triton.InferenceServerClient(url=f"127.0.0.1:{port}/churn")
        yield app, client
        client.close()
    app.log.close()


def inputs_of(client: Any, rows: list[dict[str, Any]], *, binary: bool = True) -> list[triton.InferInput]:
    """Build the inputs of rows without a gap from what the service says of itself, as a client would."""
    inputs = []
    for each in client.get_model_metadata("churn")["inputs"]:
        values = [row[each["name"]] for row in rows]
        if each["datatype"] == "BYTES":
            values = [value if isinstance(value, str) else str(value) for value in values]
        array = np.array(values, dtype=KINDS[each["datatype"]])
        tensor = triton.InferInput(each["name"], list(array.shape), each["datatype"])
        inputs.append(tensor.set_data_from_numpy(array, binary_data=binary))
    return inputs


def whole(app: App) -> list[dict[str, Any]]:
    rows = [row for row in app.rows if all(value is not None for value in row.values())]
    assert rows
    return rows


def test_triton_finds_server_and_model(served: tuple[App, Any]) -> None:
    _, client = served
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("churn")
    assert client.is_model_ready("churn", "2")
    assert not client.is_model_ready("churn", "9")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("churn")["versions"] == ["1", "2"]
    assert client.get_model_metadata("churn", "2")["versions"] == ["2"]


@pytest.mark.parametrize("sent_binary", [True, False])
@pytest.mark.parametrize("got_binary", [True, False, None])
def test_triton_gets_the_bundles_own_answers(
    served: tuple[App, Any], sent_binary: bool, got_binary: bool | None
) -> None:
    app, client = served
    rows = whole(app)
    inputs = inputs_of(client, rows, binary=sent_binary)
    names = [each["name"] for each in client.get_model_metadata("churn")["outputs"]]
    outputs = None
    if got_binary is not None:
        outputs = [triton.InferRequestedOutput(name, binary_data=got_binary) for name in names]
    for number, bundle in enumerate(app.bundles, start=1):
        result = client.infer("churn", inputs, model_version=str(number), outputs=outputs, request_id="r-7")
        said = result.get_response()
        assert (said["id"], said["model_name"], said["model_version"]) == ("r-7", "churn", str(number))
        expected = bundle.predictor().predict(rows)
        if expected.labels is None:
            np.testing.assert_array_equal(result.as_numpy("prediction"), expected.values)
            continue
        labels = [each.decode() if isinstance(each, bytes) else each for each in result.as_numpy("label")]
        assert labels == [expected.labels[index] for index in expected.values]
        np.testing.assert_array_equal(result.as_numpy("probabilities"), expected.probabilities)


def test_triton_may_ask_for_one_output_alone(served: tuple[App, Any]) -> None:
    app, client = served
    name = client.get_model_metadata("churn")["outputs"][0]["name"]
    result = client.infer("churn", inputs_of(client, whole(app)), outputs=[triton.InferRequestedOutput(name)])
    assert [each["name"] for each in result.get_response()["outputs"]] == [name]


def test_triton_is_told_the_row_and_column_of_a_bad_value(served: tuple[App, Any]) -> None:
    app, client = served
    inputs = inputs_of(client, whole(app))
    with pytest.raises(InferenceServerException, match=r"\[422\] .*send every input column"):
        client.infer("churn", inputs[1:])
    with pytest.raises(InferenceServerException, match=r"\[404\] .*no live version '9'"):
        client.infer("churn", inputs, model_version="9")
    with pytest.raises(InferenceServerException, match=r"\[400\] .*is no output"):
        client.infer("churn", inputs, outputs=[triton.InferRequestedOutput("labels")])


def test_the_truth_of_an_answer_to_triton_is_joined(served: tuple[App, Any]) -> None:
    app, client = served
    rows = whole(app)[:1]
    result = client.infer("churn", inputs_of(client, rows), model_version="1")
    request_id = result.get_response()["parameters"]["request_id"]
    label = app.predict(rows, x_rayline_version="1").json["predictions"][0]
    reply = app.ask(
        "POST",
        "/churn/feedback",
        {"request_id": request_id, "label": label.get("label", label.get("prediction"))},
    )
    assert (reply.status, reply.json["status"]) == (200, "joined")
