"""``mlflow-server.sh``, which every role's image starts: over PostgreSQL, from an empty database, and once more."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx

from cluster_files import CLUSTER
from team_services import Process, free_port, healthy, postgresql


def test_the_script_serves_a_team_over_postgresql(tmp_path: Path) -> None:
    import psycopg2

    port = free_port()
    with postgresql() as uri:
        given = {
            "PYTHON": sys.executable,
            "MLFLOW_BACKEND_URI": uri,
            "MLFLOW_ARTIFACTS": str(tmp_path / "artifacts"),
            "MLFLOW_PORT": str(port),
            "MLFLOW_WORKERS": "1",
            "MLFLOW_STATE": str(tmp_path / "state"),
        }
        script = str(CLUSTER / "mlflow-server.sh")
        log = tmp_path / "log"
        server = Process("mlflow-server.sh", ["bash", script], port, log, given, {}, lambda: healthy(port))
        api = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments"
        try:
            server.start()
            assert httpx.post(f"{api}/create", json={"name": "team"}, timeout=30).status_code == 200
        finally:
            server.kill()
        with psycopg2.connect(uri) as database, database.cursor() as cursor:
            cursor.execute("select name from experiments order by name")
            assert [name for (name,) in cursor.fetchall()] == ["Default", "team"]
        database.close()
