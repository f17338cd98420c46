"""A live service behind HAProxy that wants a token, asked by a ready client of the Open Inference Protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from rayline.config import AccessConfig, ServiceConfig
from rayline.errors import ConfigError, NotFoundError
from rayline.registry.bundle import Bundle
from rayline.serving.http.ingress import ingress_environment
from rayline.serving.service import Service, deploy
from rayline.serving.traffic.plan import LiveVersion
from registry_examples import make_bundle, real_table

PORT = 22024
ASK, ADMIN = "a" * 32, "b" * 32


@dataclass
class Guarded:
    service: Service
    bundle: Bundle
    version: LiveVersion
    storage: str


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    import ray
    from ray import serve

    folder, storage = tmp_path_factory.mktemp("bundles"), str(tmp_path_factory.mktemp("storage"))
    files = {}
    for name, token in (("token_file", ASK), ("admin_token_file", ADMIN)):
        path = folder / name
        path.write_text(token)
        path.chmod(0o600)
        files[name] = str(path)
    before = dict(os.environ)
    os.environ.update(ingress_environment("127.0.0.1", PORT, storage, "haproxy"))
    bundle = make_bundle(folder / "1", real_table("binary"))
    version = LiveVersion(1, str(bundle.path), bundle.digest)
    config = ServiceConfig(port=PORT, ingress="haproxy", access=AccessConfig(**files))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield Guarded(deploy("churn", config, storage, version), bundle, version, storage)
        serve.shutdown()
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)


def test_triton_is_answered_through_the_ingress(guarded: Guarded) -> None:
    import tritonclient.http as triton

    rows = [dict(row) for row in guarded.bundle.example]
    headers = {"Authorization": f"Bearer {ASK}"}
    client = triton.InferenceServerClient(url=guarded.service.url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_model_ready("churn", headers=headers)
    inputs = []
    for each in client.get_model_metadata("churn", headers=headers)["inputs"]:
        values = np.array([row[each["name"]] for row in rows], np.float64)
        inputs.append(triton.InferInput(each["name"], [len(rows)], "FP64").set_data_from_numpy(values))
    result = client.infer("churn", inputs, request_id="live", headers=dict(headers))
    assert result.get_response()["id"] == "live"
    expected: Any = guarded.bundle.predictor().predict(rows)
    np.testing.assert_array_equal(result.as_numpy("probabilities"), expected.probabilities)
    client.close()


def test_each_door_wants_its_token(guarded: Guarded) -> None:
    body = {"rows": [dict(row) for row in guarded.bundle.example]}
    with httpx.Client(base_url=guarded.service.url, timeout=30) as client:
        for token, predict, inside in ((None, 401, 401), ("x" * 32, 401, 401), (ASK, 200, 403), (ADMIN, 200, 200)):
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            assert client.post("/predict", json=body, headers=headers).status_code == predict
            assert client.post("/predict", json=body, headers=headers).status_code == predict
            assert client.get("/", headers=headers).status_code == inside
            assert client.get("/v2/health/ready").status_code == 200


def test_an_open_address_or_a_lost_token_is_refused_before_anything_starts(guarded: Guarded, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"service\.host '0\.0\.0\.0' can be reached"):
        deploy("other", ServiceConfig(host="0.0.0.0", port=PORT), guarded.storage, guarded.version)
    lost = ServiceConfig(port=PORT, access=AccessConfig(token_file=str(tmp_path / "none")))
    with pytest.raises(NotFoundError, match="Make one: "):
        deploy("other", lost, guarded.storage, guarded.version)
