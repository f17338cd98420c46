"""The OpenAPI document is a valid one, and what the service answers is what it says, whatever is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from protocol_app import App

CASES = ("regression", "mixed", "arrays")
FEW = settings(
    max_examples=12, phases=[Phase.generate], deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module", params=CASES)
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    app = App(tmp_path_factory.mktemp(request.param), request.param, peers=None)
    yield app
    app.log.close()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_whatever_is_asked_is_answered_as_the_document_says(app: App, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_asgi("/churn/openapi.json", app.endpoint)
    operations = [each.ok() for each in schema.get_all_operations()]
    assert {each.path for each in operations} | {"/churn/openapi.json"} == set(
        app.ask("GET", "/churn/openapi.json").json["paths"]
    )
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and operation.method == "get":
            continue  # there is nothing to get wrong

        @given(operation.as_strategy(generation_mode=mode))
        @FEW
        def holds(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        holds()


def test_the_document_has_each_column_and_a_working_example(app: App) -> None:
    document = app.ask("GET", "/churn/openapi.json").json
    assert document["openapi"].startswith("3.1")
    row = document["components"]["schemas"]["Row"]
    assert set(app.rows[0]) == set(row["required"])
    defined = {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}
    for name in document["components"]["schemas"]:
        Draft202012Validator.check_schema(document["components"]["schemas"][name])
    validator = Draft202012Validator({**defined, "$ref": "#/components/schemas/Row"})
    for each in app.rows:
        validator.validate(each)
    example = document["paths"]["/churn/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    reply = app.ask("POST", "/churn/predict", example["rows"]["value"])
    assert reply.status == 200
    Draft202012Validator({**defined, "$ref": "#/components/schemas/PredictAnswer"}).validate(reply.json)
    bad = app.predict([{**app.rows[0], "nonsense": 1}])
    assert bad.status == 422
    Draft202012Validator({**defined, "$ref": "#/components/schemas/RowError"}).validate(bad.json)
