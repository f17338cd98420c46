"""``/invocations`` gives what MLflow's own scoring server gives of the same bundle's ``pyfunc`` model."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from protocol_app import App
from rayline.registry import pyfunc

CASES = ("binary", "multiclass", "regression", "mixed")


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow says of its own code as it is imported
        import mlflow.pyfunc
        from mlflow.models import Model
        from mlflow.pyfunc import scoring_server  # noqa: F401

    folder = tmp_path_factory.mktemp(request.param)
    app = App(folder, request.param)
    pyfunc.save(app.bundles[0], folder / "model", Model())
    yield app, mlflow.pyfunc.load_model(str(folder / "model"))
    app.log.close()


def mlflow_answers(model: Any, body: str, kind: str = "application/json") -> Any:
    from mlflow.pyfunc import scoring_server

    reply = scoring_server.invocations(body, kind, model, model.metadata.get_input_schema())
    assert reply.status == 200
    return json.loads(reply.response)


def invocations(app: App, body: Any, kind: str = "application/json") -> Any:
    return app.ask("POST", "/churn/invocations", body, {"content-type": kind, "x-rayline-version": "1"})


def forms(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = list(rows[0])
    return {
        "dataframe_split": {
            "columns": names,
            "data": [list(row.values()) for row in rows],
            "index": [*range(len(rows))],
        },
        "dataframe_records": rows,
        "inputs": rows,
    }


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_each_form_gets_mlflows_own_answer(pair: tuple[App, Any], form: str) -> None:
    app, model = pair
    body = {form: forms(app.rows)[form]}
    reply = invocations(app, body)
    assert reply.status == 200, reply.raw
    assert reply.headers["x-request-id"]
    expected, found = mlflow_answers(model, json.dumps(body))["predictions"], reply.json["predictions"]
    assert [list(each) for each in found] == [list(each) for each in expected]
    assert [list(each.values()) for each in found] == [
        [value if isinstance(value, str) else pytest.approx(value, rel=1e-6) for value in each.values()]
        for each in expected
    ]


def test_the_other_forms_are_the_same_rows(pair: tuple[App, Any]) -> None:
    app, _ = pair
    expected = invocations(app, {"dataframe_records": app.rows}).json
    columns = {name: [row[name] for row in app.rows] for name in app.rows[0]}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(app.rows[0]))
    writer.writeheader()
    writer.writerows(app.rows)
    assert invocations(app, {"inputs": columns}).json == expected
    assert invocations(app, {"instances": app.rows}).json == expected
    assert invocations(app, {"instances": columns}).json == expected
    alone = invocations(app, {"inputs": app.rows[0]}).json["predictions"][0]
    assert alone == {
        key: value if isinstance(value, str) else pytest.approx(value, rel=1e-6)
        for key, value in expected["predictions"][0].items()
    }
    assert invocations(app, text.getvalue().encode(), "text/csv; charset=utf-8").json == expected


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp("arrays"), "arrays")
    yield app
    app.log.close()


def test_arrays_travel(app: App) -> None:
    expected = app.predict(app.rows, x_rayline_version="1").json["predictions"]
    for form, body in forms(app.rows).items():
        found = invocations(app, {form: body}).json["predictions"]
        assert [each["label"] for each in found] == [each["label"] for each in expected]
        assert [each["probability_cat"] for each in found] == [each["probabilities"]["cat"] for each in expected]


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"{", "application/json", 400, "is not JSON such as"),
        (b"[" * 100_000, "application/json", 400, "is not JSON such as"),
        ({"rows": []}, "application/json", 400, "must have one of dataframe_split"),
        ({"inputs": [], "instances": []}, "application/json", 400, "must have one of"),
        ({"inputs": []}, "application/json", 400, "send 1 to 100"),
        ({"inputs": [[1, 2]]}, "application/json", 400, "must be an object of column and value"),
        ({"inputs": {"price": [1], "words": ["x", "y"]}}, "application/json", 422, "must be a list of 1"),
        ({"inputs": {}}, "application/json", 422, "send every input column"),
        ({"dataframe_records": {}}, "application/json", 400, "must be a list of rows"),
        ({"dataframe_split": {"data": [[1]]}}, "application/json", 400, "must be the list of column names"),
        ({"dataframe_split": {"columns": ["price"], "data": [[1, 2]]}}, "application/json", 400, "list of 1 values"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "application/json", 422, "names two columns"),
        ({"dataframe_records": [{"prise": 1}]}, "application/json", 422, "send every input column"),
        ({"inputs": [{}], "params": {"t": 1}}, "application/json", 400, "leave params out"),
        (b"price\n1,2\n", "text/csv", 400, "fields stand in a line"),
        (b"price\nx\n", "text/csv", 422, "row 0, column 'price': 'x' is not a finite number"),
        (b'price\n"', "text/csv", 400, "is no CSV"),
        (b"\xff", "text/csv", 400, "is no CSV in UTF-8"),
        (b"price\n" + b"1\n" * 200, "text/csv", 400, "send 1 to 100"),
        (b"", "text/csv", 400, "send 1 to 100"),
        (b"<a/>", "application/xml", 415, "is not served"),
        (b"{}", "application/json; charset=latin-1", 415, "send UTF-8"),
    ],
)
def test_what_is_no_request_is_told_as_json(app: App, body: Any, kind: str, status: int, said: str) -> None:
    reply = invocations(app, body, kind)
    assert (reply.status, said in reply.json["error"]) == (status, True), reply.raw


@pytest.mark.parametrize("page", ["ping", "health", "version"])
def test_the_pages_of_mlflows_server_are_there(app: App, page: str) -> None:
    assert app.ask("GET", f"/churn/{page}").status == 200
