"""The fallback: the same service behind Serve's plain proxy, without HAProxy, on a Ray of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from rayline.serving.http.ingress import ingress_environment
from registry_examples import make_bundle, real_table

PORT = 18160

STORY = """
import json, sys
import httpx, ray
from ray import serve
from rayline.config import ServiceConfig
from rayline.errors import ClusterError
from rayline.serving.traffic.plan import LiveVersion
from rayline.serving.service import deploy

port, storage, path, digest, rows = int(sys.argv[1]), *sys.argv[2:6]
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
service = deploy("iris", ServiceConfig(port=port, ingress="proxy"), storage, LiveVersion(7, path, digest))
reply = httpx.post(service.url + "/predict", json={"rows": json.loads(rows)}, headers={"x-session-id": "s"}, timeout=40)
bad = httpx.post(service.url + "/predict", json={"rows": []}, timeout=40)
truth = {"request_id": reply.json()["request_id"], "label": [one["label"] for one in reply.json()["predictions"]]}
told = httpx.post(service.url + "/feedback", json=truth, timeout=40)
stats = service.observe().since(None)[7]
facts = {
    "status": reply.status_code, "body": reply.json(), "ids": reply.headers.get_list("x-request-id"),
    "bad": bad.status_code, "told": told.json()["status"], "requests": stats.requests, "correct": stats.correct,
}
service.delete()
facts["after"] = httpx.get(service.url + "/", timeout=40).status_code
serve.shutdown()
ray.shutdown()
print("FACTS " + json.dumps(facts))
"""


def test_the_plain_proxy_gives_the_same_answers(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, real_table("multiclass"))
    rows = [dict(row) for row in bundle.example]
    settings = ingress_environment("127.0.0.1", PORT, str(tmp_path), "proxy")
    arguments = [str(PORT), str(tmp_path / "storage"), str(bundle.path), bundle.digest, json.dumps(rows)]

    done = subprocess.run(
        [sys.executable, "-c", STORY, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **settings, "RAY_SERVE_ENABLE_HA_PROXY": "0"},
    )

    lines = [line for line in done.stdout.splitlines() if line.startswith("FACTS ")]
    assert lines, done.stdout + done.stderr
    facts = json.loads(lines[0].removeprefix("FACTS "))
    assert facts["status"] == 200
    assert facts["body"]["version"] == 7
    assert facts["body"]["predictions"] == bundle.predictor().predict(rows).records()
    assert facts["ids"] == [facts["body"]["request_id"]]
    assert facts["bad"] == 422
    assert facts["told"] == "joined"
    assert (facts["requests"], facts["correct"]) == (1, len(rows))
    assert facts["after"] == 404
