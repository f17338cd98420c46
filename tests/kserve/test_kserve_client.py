"""kserve's real client, as a process of its own environment, against one replica's application on a real server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live_app import listening
from protocol_app import App

HERE = Path(__file__).parent
PYTHON = Path(os.environ.get("KSERVE_PYTHON", HERE.parents[1] / ".venv-kserve/bin/python"))
SECONDS = 120


@pytest.mark.skipif(not PYTHON.exists(), reason=f"kserve's environment is not there: {PYTHON}; `make test-kserve`")
@pytest.mark.parametrize("task", ["binary", "arrays"])
def test_kserve_gets_the_bundles_own_answers(task: str, tmp_path: Path) -> None:
    app = App(tmp_path, task)
    app.host.apply(app.plan.weighing(1, {1: 100}))
    metadata = app.ask("GET", "/churn/v2/models/churn").json
    rows = app.rows
    inputs: list[dict[str, Any]] = [
        {
            "name": each["name"],
            "datatype": each["datatype"],
            "shape": [len(rows), *each["shape"][1:]],
            "data": [row[each["name"]] for row in rows],
        }
        for each in metadata["inputs"]
    ]
    with listening(app.endpoint) as port:
        run = subprocess.run(
            [str(PYTHON), str(HERE / "kserve_client.py"), f"http://127.0.0.1:{port}/churn", "churn"],
            input=json.dumps({"inputs": inputs}),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        )
    app.log.close()
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert (said["live"], said["ready"], said["model_ready"], said["other_ready"]) == (True, True, True, False)
    expected = app.bundles[0].predictor().predict(rows)
    assert expected.labels is not None
    for form in ("json", "binary"):
        assert (said[form]["id"], said[form]["model"][0]) == ("k-1", "churn")
        assert said[form]["outputs"]["label"] == [expected.labels[index] for index in expected.values]
        np.testing.assert_array_equal(
            np.array(said[form]["outputs"]["probabilities"], np.float32), expected.probabilities
        )
    assert "send every input column" in said["refused"]
