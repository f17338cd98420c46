"""Finding a live service: what is missing is told, and nothing is started on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayline.errors import ClusterError, NotFoundError
from rayline.serving.service import RECORD, Service


def test_without_a_connection_to_ray_nothing_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "services" / "churn"
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps({"url": "http://127.0.0.1:8000/churn"}))
    looked: list[str] = []
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.get_actor", lambda name, namespace: looked.append(name))
    with pytest.raises(ClusterError, match=r"Ray is not connected\. Call rayline\.connect\(storage\) first"):
        Service.connect("churn", tmp_path)
    assert looked == []


def test_a_service_that_was_never_deployed_is_told_without_ray(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="service 'churn' was never deployed here"):
        Service.connect("churn", tmp_path)
