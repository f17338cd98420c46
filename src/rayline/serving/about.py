"""What a service says of itself: its traffic, its health and the Open Inference Protocol's model pages. Pure."""

from __future__ import annotations

from typing import Any

from rayline.serving.host import Host
from rayline.serving.served import Served

_DATATYPES = {"numeric": "FP64", "boolean": "BOOL", "categorical": "BYTES", "datetime": "BYTES"}

Page = tuple[int, dict[str, Any]]


def answer(service: str, host: Host, path: str) -> Page:
    """Return status and body of a GET on ``path``, which is what follows the service's prefix."""
    if path in ("", "/"):
        return _service(service, host)
    if path == "/v2/health/live":
        return 200, {"live": True}
    if path == "/v2/health/ready":
        return _ready(_is_ready(host))
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
    return (200 if ready else 503), {"ready": ready}


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
            one = versions.get(int(number)) if number.isdecimal() else None
            if one is None:
                live = ", ".join(str(each) for each in versions) or "none"
                return _missing(f"service '{service}' has no live version '{number}'. Live: {live}.")
            return _ready(True) if rest else (200, _facts(service, [one.live.number], one))
    return _missing(f"service '{service}' has no page of this name below /v2/models/{service}.")


def _facts(service: str, versions: list[int], served: Served) -> dict[str, Any]:
    schema = served.bundle.features.schema
    inputs = [
        {"name": column.name, "datatype": _DATATYPES[column.kind], "shape": [-1]}
        for column in schema.columns
        if column.name in served.columns
    ]
    if served.labelled:
        outputs = [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(schema.classes)]},
        ]
    else:
        outputs = [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]
    return {
        "name": service,
        "versions": [str(number) for number in versions],
        "platform": "rayline",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {"execution": served.engine[0], "execution_why": served.engine[1]},
    }


def _missing(message: str) -> Page:
    return 404, {"error": message}
