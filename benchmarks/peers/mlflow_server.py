"""MLflow's scoring server, one worker, as ``mlflow models serve`` starts it, on the bundle logged as an MLflow model.

Its body is MLflow's own, ``{"dataframe_records": [row, ...]}``, of the same rows.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import uvicorn
from model import predictor

MLMODEL = """flavors:
  python_function:
    loader_module: rayline.registry.pyfunc
    data: data/bundle
    python_version: {version}
"""

if __name__ == "__main__":
    from mlflow.pyfunc import load_model, scoring_server

    predictor()
    folder = Path(tempfile.mkdtemp(prefix="rayline-bench-mlflow-"))
    try:
        shutil.copytree(os.environ["BUNDLE"], folder / "data" / "bundle")
        (folder / "MLmodel").write_text(MLMODEL.format(version=sys.version.split()[0]), encoding="utf-8")
        app = scoring_server.init(load_model(str(folder)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
