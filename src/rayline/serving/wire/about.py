"""What a service says of itself: its traffic, its health and the Open Inference Protocol's pages of server and model.

Pure. The description for machines, ``/openapi.json``, is made in ``openapi``.
"""

from __future__ import annotations

from typing import Any

import rayline
from rayline.features.schemas.schema import ColumnSchema
from rayline.serving.host import LONGEST_NUMBER, Host
from rayline.serving.versions.served import Served
from rayline.serving.wire import openapi
from rayline.serving.wire.oip_answer import outputs_of

DATATYPES = {
    "numeric": "FP64",
    "boolean": "BOOL",
    "categorical": "BYTES",
    "datetime": "BYTES",
    "text": "BYTES",
    "vector": "FP32",
    "image": "FP32",
}
"""The Open Inference Protocol's datatype that each kind of column is described with; others that fit are read too."""

Page = tuple[int, dict[str, Any]]


def answer(service: str, host: Host, path: str, *, max_rows: int, secured: bool) -> Page:
    """Return status and body of a GET on ``path``, which is what follows the service's prefix.

    ``max_rows`` is the most that a request may hold, and ``secured`` says that it needs a token.
    """
    if path in ("", "/"):
        return _service(service, host)
    if path == "/v2/health/live":
        return 200, {"live": True}
    if path in ("/v2/health/ready", "/ping", "/health"):
        return _ready(_is_ready(host))
    if path == "/version":
        return 200, {"version": rayline.__version__}
    if path in ("/v2", "/v2/"):
        return 200, {"name": "rayline", "version": rayline.__version__, "extensions": ["binary_tensor_data"]}
    if path == "/openapi.json":
        served = host.table.versions.get(host.plan.stable) if host.plan else None
        return (200, openapi.document(service, served, max_rows, secured=secured)) if served else _ready(False)
    if path.startswith("/v2/models/"):
        return _model(service, host, path.removeprefix("/v2/models/").split("/"))
    return _missing(f"service '{service}' has no page '{path}'. POST rows to /{service}/predict.")


def _service(service: str, host: Host) -> Page:
    plan, table = host.plan, host.table
    if plan is None:
        return 503, {"error": f"service '{service}' has no traffic plan yet; try again."}
    facts = {
        "service": service,
        "generation": plan.generation,
        "stable": plan.stable,
        "weights": {str(number): weight for number, weight in sorted(plan.weights.items()) if weight},
        "versions": [
            {"version": version.number, "digest": version.digest, "loaded": version.number in table.versions}
            for version in plan.versions
        ],
    }
    return 200, facts


def _is_ready(host: Host) -> bool:
    return host.plan is not None and host.plan.stable in host.table.versions


def _ready(ready: bool) -> Page:
    return (200 if ready else 503), ({"ready": True} if ready else {"ready": False, "error": "no version is loaded."})


def _model(service: str, host: Host, parts: list[str]) -> Page:
    if parts[0] != service:
        return _missing(f"this service is '{service}', not '{parts[0]}'.")
    versions = host.table.versions
    match parts[1:]:
        case []:
            served = versions.get(host.plan.stable) if host.plan else None
            return (200, _facts(service, list(versions), served)) if served else _ready(False)
        case ["ready"]:
            return _ready(_is_ready(host))
        case ["versions", number, *rest] if rest in ([], ["ready"]):
            one = versions.get(int(number)) if number.isdecimal() and len(number) < LONGEST_NUMBER else None
            if one is None:
                live = ", ".join(str(each) for each in versions) or "none"
                return _missing(f"service '{service}' has no live version '{number}'. Live: {live}.")
            return _ready(True) if rest else (200, _facts(service, [one.live.number], one))
    return _missing(f"service '{service}' has no page of this name below /v2/models/{service}.")


def _facts(service: str, versions: list[int], served: Served) -> dict[str, Any]:
    schema = served.bundle.features.schema
    return {
        "name": service,
        "versions": [str(number) for number in versions],
        "platform": "rayline",
        "inputs": [_input(schema.column(name)) for name in served.columns],
        "outputs": outputs_of(schema.classes if served.labelled else ()),
        "parameters": {"execution": served.engine[0], "execution_why": served.engine[1]},
    }


def _input(column: ColumnSchema) -> dict[str, Any]:
    return {"name": column.name, "datatype": DATATYPES[column.kind], "shape": [-1, *(column.shape or ())]}


def _missing(message: str) -> Page:
    return 404, {"error": message}
