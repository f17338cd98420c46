"""``rayline ui``: MLflow's own pages over the project's storage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rayline import config
from rayline.cli import show
from rayline.cli.options import project_file
from rayline.errors import NotFoundError
from rayline.storage import folder_of


def serve_pages(file: Path | None, port: int) -> int:
    """Serve MLflow's pages on loopback until interrupted; return the exit code.

    Raises:
        NotFoundError: there is no project here, or nothing was tracked yet.
    """
    loaded = config.load(project_file(file))
    if loaded.registry.tracking_uri is not None:
        show.line(f"this project keeps its runs on {loaded.registry.tracking_uri}: open that address.")
        return 0
    database = folder_of(loaded.storage) / "mlflow.db"
    if not database.exists():
        raise NotFoundError(f"nothing was tracked yet: '{database}' does not exist. Run `rayline run` first.")
    show.line(f"http://127.0.0.1:{port}  (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 0
