"""The Open Inference Protocol on the wire: what is read, what is refused, and that no size is believed."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from protocol_app import App, Reply

INFER = "/churn/v2/models/churn/infer"
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp("arrays"), "arrays")
    yield app
    app.log.close()


def tensors(rows: int = 1, **changed: dict[str, Any]) -> list[dict[str, Any]]:
    """Inputs for the columns of ``array_examples``, each changed by its name."""
    inputs = {
        "price": {"datatype": "FP64", "shape": [rows], "data": [1.5] * rows},
        "embedding": {"datatype": "FP32", "shape": [rows, 3], "data": [0.5, -1, 2] * rows},
        "photo": {"datatype": "UINT8", "shape": [rows, 2, 2, 1], "data": [0, 10, 20, 255] * rows},
        "words": {"datatype": "BYTES", "shape": [rows], "data": ["red car"] * rows},
    }
    return [{"name": name, **facts, **changed.get(name, {})} for name, facts in inputs.items()]


def infer(app: App, inputs: Any, tail: bytes = b"", path: str = INFER, **more: Any) -> Reply:
    head = json.dumps({"inputs": inputs, **more}).encode()
    return app.ask("POST", path, head + tail, {LENGTH: str(len(head))} if tail else {})


ROW = {"price": 1.5, "embedding": [0.5, -1, 2], "photo": [[[0], [10]], [[20], [255]]], "words": "red car"}


def test_arrays_travel_in_own_json_flat_and_nested_and_in_batches(app: App) -> None:
    flat = {**ROW, "photo": [0, 10, 20, 255]}
    reply = app.predict([ROW, flat, {**ROW, "embedding": None}], x_rayline_version="1")
    assert reply.status == 200
    expected = app.bundles[0].predictor().predict([ROW, ROW, {**ROW, "embedding": None}]).records()
    assert reply.json["predictions"] == expected


@pytest.mark.parametrize("photo", [[0, 10, 20, 255], [[[[0], [10]], [[20], [255]]]]], ids=["flat", "nested"])
def test_arrays_travel_as_tensors(app: App, photo: Any) -> None:
    expected = app.predict([ROW], x_rayline_version="2").json["predictions"][0]
    reply = infer(app, tensors(photo={"data": photo}), path="/churn/v2/models/churn/versions/2/infer", id="a")
    assert reply.status == 200, reply.raw
    label, shares = reply.json["outputs"]
    assert reply.json["id"] == "a"
    assert reply.headers["x-rayline-version"] == "2"
    assert (label["name"], label["shape"], label["data"]) == ("label", [1], [expected["label"]])
    assert (shares["shape"], shares["data"]) == ([1, 2], list(expected["probabilities"].values()))


def test_a_column_of_numbers_may_stand_in_a_matrix_of_one_column(app: App) -> None:
    assert infer(app, tensors(price={"shape": [1, 1], "data": [[1.5]]})).status == 200


def test_null_nan_and_an_empty_text_are_missing_values(app: App) -> None:
    missing = app.predict([{**ROW, "price": None, "words": None}], x_rayline_version="1").json["predictions"]
    head = tensors(price={"data": [None]}, words={"data": [""]})
    assert infer(app, head, path="/churn/v2/models/churn/versions/1/infer").json["outputs"][1]["data"] == list(
        missing[0]["probabilities"].values()
    )
    inputs = tensors(price={"parameters": {"binary_data_size": 8}}, words={"data": [""]})
    del inputs[0]["data"]
    nan = infer(app, inputs, np.array([np.nan]).tobytes(), path="/churn/v2/models/churn/versions/1/infer")
    assert nan.json["outputs"][1]["data"] == list(missing[0]["probabilities"].values())


@pytest.mark.parametrize(
    ("name", "change", "status", "said"),
    [
        ("price", {"data": [float("1e999")]}, 400, "is not"),
        ("price", {"data": [1e200]}, 422, "row 0, column 'price': 1e+200 is not a finite number"),
        ("price", {"data": ["x"]}, 422, "row 0, column 'price': 'x' is no number"),
        ("price", {"data": [True]}, 422, "is no number, as the datatype FP64 says"),
        ("price", {"datatype": "INT8", "data": [300]}, 422, "is no whole number of the datatype INT8"),
        ("price", {"datatype": "FP65"}, 422, "is no datatype. Did you mean 'FP64'?"),
        ("price", {"data": [1, 2]}, 422, "2 values were sent, and the shape [1] has 1"),
        ("price", {"data": {}}, 422, "it must be a list"),
        ("price", {"shape": [2]}, 422, "rows were sent"),
        ("price", {"shape": []}, 422, "is no shape"),
        ("price", {"shape": [1, 2], "data": [1, 2]}, 422, "is not the shape of this column, which is [1]"),
        ("price", {"shape": [-1]}, 400, "`int` >= 0"),
        ("price", {"shape": [1.5]}, 400, "Expected `int`"),
        ("price", {"shape": [1] * 9}, 400, "length <= 8"),
        ("price", {"parameters": {"binary_data_size": 8}}, 422, "must have its values once"),
        ("price", {"parameters": {"shared_memory_region": "r"}}, 422, "'shared_memory_region' is not served here"),
        ("price", {"name": "prise"}, 422, "Did you mean 'price'?"),
        ("price", {"name": "words"}, 422, "is sent twice"),
        ("embedding", {"shape": [1, 2], "data": [1, 2]}, 422, "is not the shape of this column, which is [1, 3]"),
        ("embedding", {"data": [1, None, 2]}, 422, "None is no number"),
        ("embedding", {"data": [[[1, 2, 3]]]}, 422, "nested deeper than its shape"),
        ("photo", {"shape": [1, 2, 2, 2], "data": [0] * 8}, 422, "which is [1, 2, 2, 1]"),
        ("words", {"data": [5]}, 422, "is no text, as the datatype BYTES says"),
    ],
)
def test_a_bad_tensor_is_told_with_its_column(
    app: App, name: str, change: dict[str, Any], status: int, said: str
) -> None:
    reply = infer(app, tensors(**{name: change}))
    assert (reply.status, said in reply.json["error"]) == (status, True), reply.raw


def test_a_bad_row_in_a_batch_is_named(app: App) -> None:
    reply = infer(app, tensors(3, embedding={"data": [1, 2, 3, 4, 5, 6, 1e101, 0, 0]}))
    assert (reply.status, reply.json["row"], reply.json["column"]) == (422, 2, "embedding")
    assert "array of 3 finite numbers" in reply.json["rule"]


def binary(name: str, data: bytes, declared: int | None = None, **facts: Any) -> tuple[list[dict[str, Any]], bytes]:
    inputs = tensors()
    for each in inputs:
        if each["name"] == name:
            del each["data"]
            each |= {"parameters": {"binary_data_size": len(data) if declared is None else declared}, **facts}
    return inputs, data


def texts(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in values)


@pytest.mark.parametrize(
    ("name", "data", "declared", "facts", "said"),
    [
        ("price", bytes(8), 2**40, {}, "1099511627776 bytes of binary data are declared, and 8 follow"),
        ("price", bytes(8), 4, {}, "4 bytes of binary data are declared, and 8 follow"),
        ("price", bytes(8), -8, {}, "is no binary_data_size"),
        ("price", bytes(8), True, {}, "is no binary_data_size"),
        ("price", bytes(4), None, {}, "4 bytes were sent, and 1 values of FP64 take 8"),
        ("price", bytes(8), None, {"shape": [2**62]}, "rows were sent"),
        ("price", struct.pack("<d", float("inf")), None, {}, "inf is not a finite number"),
        ("price", b"\x07", None, {"datatype": "BOOL"}, "is no flag"),
        ("embedding", struct.pack("<3f", 1, 2, float("nan")), None, {}, "is not an array of 3 finite numbers"),
        ("embedding", texts(b"x", b"y", b"z"), None, {"datatype": "BYTES"}, "is no datatype of an array"),
        ("words", struct.pack("<I", 2**32 - 1) + b"red", None, {}, "bytes is longer than what was sent"),
        ("words", texts(b"red", b"car"), None, {}, "bytes are left over after 1 texts"),
        ("words", b"\x01", None, {}, "too short for 1 texts"),
        ("words", texts(b"\xff\xfe"), None, {}, "is not UTF-8"),
    ],
)
def test_a_binary_tensor_is_measured_before_it_is_read(
    app: App, name: str, data: bytes, declared: int | None, facts: dict[str, Any], said: str
) -> None:
    inputs, tail = binary(name, data, declared, **facts)
    tracemalloc.start()
    reply = infer(app, inputs, tail)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reply.status in (400, 422), reply.raw
    assert said in reply.json["error"]
    assert peak < 4 * 2**20


@pytest.mark.parametrize("length", ["0", "-1", "99999", "x", "9" * 5000, "²", ""])
def test_a_length_that_lies_is_400(app: App, length: str) -> None:
    reply = app.ask(
        "POST",
        INFER,
        json.dumps({"inputs": tensors()}).encode(),
        {LENGTH: length} if length != "²" else {LENGTH: "\xb2"},
    )
    assert reply.status == 400
    assert "is no length of a JSON head" in reply.json["error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is not {"),
        (b"[]", "is not {"),
        (b'{"inputs": []}', "no inputs were sent"),
        (b'{"inputs": 7}', "is not {"),
        (b'{"inputs":' + b"[" * 100_000, "is not {"),
        (
            b'{"inputs": [{"name": "price", "shape": [1], "datatype": "FP64", "data": '
            + b"[" * 50_000
            + b"]" * 50_000
            + b"}]}",
            "is n",
        ),
    ],
)
def test_what_is_no_request_is_refused(app: App, body: bytes, said: str) -> None:
    reply = app.ask("POST", INFER, body)
    assert reply.status in (400, 422)
    assert said in reply.json["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/churn/v2/models/other/infer", 404),
        ("/churn/v2/models/churn/versions/9/infer", 404),
        ("/churn/v2/models/churn/versions//infer", 404),
        (f"/churn/v2/models/churn/versions/{'9' * 5000}/infer", 404),
        ("/churn/v2/models/churn/version/1/infer", 404),
    ],
)
def test_another_model_or_version_is_404(app: App, path: str, status: int) -> None:
    assert infer(app, tensors(), path=path).status == status


def test_other_methods_and_compression_are_refused(app: App) -> None:
    assert app.ask("GET", INFER).status == 405
    assert app.ask("POST", INFER, b"x", {"content-encoding": "gzip"}).status == 415


def test_a_number_of_a_version_in_a_header_may_be_absurd(app: App) -> None:
    assert app.predict([ROW], x_rayline_version="9" * 5000).status == 404
    assert app.ask("POST", "/churn/feedback", {"request_id": "9" * 5000 + "-" + "0" * 16, "label": "cat"}).status == 422
