"""The OpenAPI 3.1 document of a service, made from the schema of its stable version. Pure.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import rayline
from rayline.serving.http.access import OPEN
from rayline.serving.versions.served import Served
from rayline.serving.wire import openapi_columns
from rayline.serving.wire.oip_answer import outputs_of
from rayline.serving.wire.oip_tensors import DATATYPES

Json = dict[str, Any]

REASONS = {
    "400": "It is no request of this protocol.",
    "401": "No token, or a wrong one.",
    "403": "Not from a node of the cluster, or with a token for something else.",
    "404": "The model, or the version that was asked for, is not live here.",
    "413": "The body is larger than a request may be.",
    "415": "A content type, or a compression, that is not served.",
    "422": "A value of one row cannot be used: row, column, value and rule say which and why.",
    "500": "The version failed; it is counted against it.",
    "503": "Not ready, or too busy; try again.",
}
_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_SESSION = {
    "name": "x-session-id",
    "in": "header",
    "description": "Requests with the same key are answered by the same version, as far as the traffic allows.",
    "schema": {"type": "string"},
}
_PIN = {
    "name": "x-rayline-version",
    "in": "header",
    "description": "The number of a live version that must answer.",
    "schema": {"type": "string"},
}
_HEADERS = {
    "x-rayline-version": {"description": "The version that answered.", "schema": {"type": "string"}},
    "x-request-id": {"description": "To send with feedback.", "schema": {"type": "string"}},
}


def document(service: str, served: Served, max_rows: int, *, secured: bool = False) -> Json:
    """Return the document of a service.

    Args:
        service: its name.
        served: the stable version.
        max_rows: per request.
        secured: requests need a bearer token.
    """
    facts = _Facts(service, served, max_rows, secured)
    paths = {
        "/predict": {"post": facts.predict()},
        "/feedback": {"post": facts.feedback()},
        "/invocations": {"post": facts.invocations()},
        f"/v2/models/{service}/infer": {"post": facts.infer()},
        f"/v2/models/{service}/versions/{{version}}/infer": {
            "parameters": [{"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}],
            "post": facts.infer(versioned=True),
        },
        **{page: {"get": facts.page(page, said)} for page, said in _pages(service).items()},
    }
    security: Json = {"security": [{"bearer": []}]} if secured else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": service,
            "version": served.number_text.decode("ascii"),
            "summary": f"Predictions of '{served.bundle.name}', a {served.bundle.task} model.",
            "description": f"Served by Rayline {rayline.__version__}; described from its stable version.",
        },
        **security,
        "paths": {f"/{service}{path}": item for path, item in paths.items()},
        "components": facts.components(),
    }


class _Facts:
    """What the parts of one document share."""

    def __init__(self, service: str, served: Served, max_rows: int, secured: bool) -> None:
        self._service, self._served, self._max_rows, self._secured = service, served, max_rows, secured
        self._schema = served.bundle.features.schema
        self._example = [dict(each) for each in served.bundle.example[:2]]

    def predict(self) -> Json:
        body = _content(_ref("PredictRequest"), {"rows": self._example})
        answers = {"200": _answer("One prediction for each row.", _ref("PredictAnswer"), _HEADERS)}
        answers |= self._refusals("404", "413", "422", "500", "503")
        return _operation("predict", "Predict rows.", body, answers, [_SESSION, _PIN])

    def feedback(self) -> Json:
        schema = {
            "type": "object",
            "properties": {
                "request_id": {"type": "string"},
                "label": {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]},
            },
            "required": ["request_id", "label"],
            "additionalProperties": False,
        }
        status = {"type": "object", "properties": {"request_id": {"type": "string"}, "status": {"type": "string"}}}
        answers = {"200": _answer("The truth was stored.", status), "202": _answer("It was passed on.", status)}
        answers |= self._refusals("413", "422", "503")
        label = self._schema.classes[0] if self._schema.classes else 1.0
        body = _content(schema, {"request_id": "1-00c0ffee00000001", "label": label})
        return _operation("feedback", "Tell the truth of an earlier request.", body, answers, [])

    def invocations(self) -> Json:
        body = _content(_ref("InvocationsRequest"), {"dataframe_records": self._example})
        body["content"]["text/csv"] = {"schema": {"type": "string"}}
        answers = {"200": _answer("One prediction for each row.", _ref("InvocationsAnswer"), _HEADERS)}
        answers |= self._refusals("400", "404", "413", "415", "422", "500", "503")
        return _operation("invocations", "Predict rows, as MLflow asks.", body, answers, [_SESSION, _PIN])

    def infer(self, *, versioned: bool = False) -> Json:
        body = _content(_ref("InferRequest"), None)
        body["content"]["application/octet-stream"] = {"schema": {"type": "string"}}
        head = {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "The bytes of JSON in front of binary tensors.",
            "schema": {"type": "integer", "minimum": 1},
        }
        answer = _answer("One prediction for each row.", _ref("InferAnswer"), _HEADERS)
        answer["content"]["application/octet-stream"] = {"schema": {"type": "string"}}
        answers = {"200": answer} | self._refusals("400", "404", "413", "415", "422", "500", "503")
        parameters = [head, *([] if versioned else [_SESSION, _PIN])]
        said = "Predict rows with one version" if versioned else "Predict rows"
        name = "infer_version" if versioned else "infer"
        return _operation(name, f"{said}, by the Open Inference Protocol.", body, answers, parameters)

    def page(self, path: str, said: str) -> Json:
        answers = {"200": _answer(said, {"type": "object"})} | self._refusals("503")
        name = "get" + path.replace("/", "_").replace(".", "_")
        found = {"operationId": name, "summary": said, "responses": answers}
        return {**found, "security": []} if path in OPEN else found

    def components(self) -> Json:
        rows = {"type": "array", "items": _ref("Row"), "minItems": 1, "maxItems": self._max_rows}
        predictions = {"type": "array", "items": _ref("Prediction")}
        answer = {"model": {"type": "string"}, "version": {"type": "integer"}, "request_id": {"type": "string"}}
        mlflow = {"type": "array", "items": openapi_columns.mlflow_prediction(self._schema)}
        schemas = {
            "Row": openapi_columns.row(self._served),
            "Prediction": openapi_columns.prediction(self._schema),
            "PredictRequest": _closed({"rows": rows}),
            "PredictAnswer": _closed({**answer, "predictions": predictions}),
            "InvocationsRequest": self._forms(rows),
            "InvocationsAnswer": _closed({"predictions": mlflow}),
            "InferRequest": self._tensors(),
            "InferAnswer": _infer_answer([each["name"] for each in outputs_of(self._schema.classes)]),
            "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
            "RowError": _row_error(),
        }
        security = {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}} if self._secured else {}
        return {"schemas": schemas, **security}

    def _forms(self, rows: Json) -> Json:
        names = list(self._served.columns)
        values = {"type": "array", "maxItems": self._max_rows}
        split = _closed(
            {
                "columns": {"type": "array", "items": {"enum": names}},
                "data": {"type": "array", "items": {"type": "array"}, "minItems": 1, "maxItems": self._max_rows},
            }
        )
        columns = {"type": "object", "properties": dict.fromkeys(names, values), "required": names}
        by_form = {"dataframe_split": split, "dataframe_records": rows, "inputs": {"anyOf": [rows, columns]}}
        by_form["instances"] = by_form["inputs"]
        return {"oneOf": [_closed({name: schema}) for name, schema in by_form.items()]}

    def _tensors(self) -> Json:
        tensor = {
            "name": {"enum": list(self._served.columns)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 8},
            "datatype": {"enum": list(DATATYPES)},
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        }
        inputs = {"type": "object", "properties": tensor, "required": ["name", "shape", "datatype"]}
        outputs = {"name": {"enum": [each["name"] for each in outputs_of(self._schema.classes)]}}
        output = {"type": "object", "properties": {**outputs, "parameters": {"type": "object"}}, "required": ["name"]}
        properties = {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": inputs, "minItems": 1},
            "outputs": {"type": "array", "items": output},
        }
        return {"type": "object", "properties": properties, "required": ["inputs"]}

    def _refusals(self, *codes: str) -> Json:
        access = ("401", "403") if self._secured else ("403",)
        return {
            code: _answer(REASONS[code], _ref("RowError" if code == "422" else "Error"))
            for code in sorted((*codes, *access))
        }


def _pages(service: str) -> dict[str, str]:
    return {
        "/v2": "What serves.",
        "/v2/health/live": "Whether the process answers.",
        "/v2/health/ready": "Whether the stable version is loaded.",
        f"/v2/models/{service}": "The stable version's inputs and outputs.",
        f"/v2/models/{service}/ready": "Whether the stable version is loaded.",
        "/ping": "Whether the stable version is loaded, where MLflow's clients ask.",
        "/health": "Whether the stable version is loaded, where MLflow's clients ask.",
        "/version": "Rayline's version.",
        "/openapi.json": "This document.",
    }


def _operation(name: str, said: str, body: Json, answers: Json, parameters: Sequence[Json]) -> Json:
    found: Json = {"operationId": name, "summary": said, "requestBody": body, "responses": answers}
    return {**found, "parameters": list(parameters)} if parameters else found


def _content(schema: Json, example: Any) -> Json:
    media = {"schema": schema, **({"examples": {"rows": {"value": example}}} if example is not None else {})}
    return {"required": True, "content": {"application/json": media}}


def _answer(said: str, schema: Json, headers: Json | None = None) -> Json:
    found: Json = {"description": said, "content": {"application/json": {"schema": schema}}}
    return {**found, "headers": headers} if headers else found


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _closed(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _row_error() -> Json:
    properties = {
        "error": {"type": "string"},
        "row": {"type": "integer", "minimum": 0},
        "column": {"type": ["string", "null"]},
        "value": _SCALAR,
        "rule": {"type": "string"},
    }
    return _closed(properties)


def _infer_answer(names: Sequence[str]) -> Json:
    output = {
        "name": {"enum": list(names)},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
    }
    outputs = {"type": "array", "items": {"type": "object", "properties": output, "required": list(output)}}
    facts = {"model_name": {"type": "string"}, "model_version": {"type": "string"}, "outputs": outputs}
    return {"type": "object", "properties": facts, "required": list(facts)}
