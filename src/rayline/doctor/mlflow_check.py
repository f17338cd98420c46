"""Does MLflow answer, and is its database at the version that this MLflow works with?"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from rayline.doctor.seam import Finding, Subject
from rayline.registry.mlflow_store import MlflowStore
from rayline.registry.mlflow_values import shown_uri
from rayline.registry.schema_version import latest, revision_of, steps_behind

ASK_SECONDS = 8.0
SLOW_SECONDS = 1.0


class MlflowCheck:
    """Asks a server for its health and version; of a database it reads the version of its tables."""

    name = "MLflow"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        if subject.config is None:
            return [Finding("skipped", "no configuration says where it is")]
        uri = MlflowStore.at(subject.config.registry.tracking_uri, subject.config.storage).tracking_uri
        return [_server(uri) if uri.startswith("http") else _database(uri)]


def _server(uri: str) -> Finding:
    shown, began = shown_uri(uri), time.monotonic()
    try:
        _page(f"{uri.rstrip('/')}/health")
        seconds, version = time.monotonic() - began, _page(f"{uri.rstrip('/')}/version")
    except urllib.error.HTTPError as error:
        return Finding("failed", f"{shown} answers {error.code} {error.reason}", "Check registry.tracking_uri.")
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        way_out = "Start it (cluster/mlflow-server.sh), or check registry.tracking_uri."
        return Finding("failed", f"{shown} does not answer: {why}", way_out)
    ours = metadata.version("mlflow")
    seen = f"{shown} answers in {1000 * seconds:.0f} ms, version {version[:20]}"
    if version.split(".")[:2] != ours.split(".")[:2]:
        return Finding("notice", f"{seen}; here is {ours}", "Run the same minor version on both sides.")
    if seconds > SLOW_SECONDS:
        return Finding("notice", seen, "Look at the server and its database: a run waits for it at each step.")
    return Finding("ok", seen)


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=ASK_SECONDS) as answer:
        text: str = answer.read(1_000).decode(errors="replace").strip()
        return text


def _database(uri: str) -> Finding:
    shown = shown_uri(uri)
    file = Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None
    if file is not None and not file.exists():
        return Finding("ok", f"{shown} will be made at the first use")
    revision = revision_of(uri)
    if revision is None:
        return Finding("ok" if file is None else "notice", f"{shown} holds no tables yet", "The first use makes them.")
    behind = steps_behind(revision)
    if behind is None:
        way_out = "Install the MLflow that wrote it, or name another database."
        return Finding("failed", f"{shown} is at version {revision}, which this MLflow does not know: newer", way_out)
    if behind:
        seen = f"{shown} is at version {revision}, {behind} migrations behind {latest()}"
        return Finding("failed", seen, f"Copy the database, then: mlflow db upgrade '{shown}'.")
    return Finding("ok", f"{shown} is at version {revision}, this MLflow's own")
