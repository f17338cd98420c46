"""The main job, whole: what `make demo` shows is what happened."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

RAYLINE = str(Path(sys.executable).parent / "rayline")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo")
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port = candidate.getsockname()[1]
    done = subprocess.run(
        [RAYLINE, "demo", "--port", str(port), "--out", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "COLUMNS": "200"},
    )
    return folder, done


def test_it_ends_well_with_no_failed_request(shown: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = shown
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"[\d,]+ requests, 0 failed", done.stdout)
    assert "version 2 promoted" in done.stdout
    assert "version 3 taken back" in done.stdout
    assert "not applied" not in done.stdout  # nothing of the service was changed


def test_the_reason_is_an_inequality_with_both_numbers(shown: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = shown
    assert re.search(r"of canary v3 [\d.]+ [<>] stable v2 [\d.]+", done.stdout), done.stdout


def test_the_gate_refuses_the_bad_version_before_the_rollout_is_forced(
    shown: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, done = shown
    refused = re.search(r"roc_auc of version 3 \(n = \d+\) [\d.]+ < champion v2 [\d.]+ - 0.02", done.stdout)
    forced = re.search(r"version 3 was let past its gates by \w+: the demo shows", done.stdout)
    assert refused is not None, done.stdout
    assert forced is not None, done.stdout
    assert refused.start() < forced.start()


def test_the_bad_version_never_had_more_than_ten_percent(
    shown: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, done = shown
    assert "v3 at 10 %" in done.stdout
    assert "v3 at 50 %" not in done.stdout


def test_mlflow_keeps_the_whole_story(shown: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = shown
    assert done.returncode == 0
    script = f"""
import json
from rayline.registry.mlflow_store import MlflowStore
store = MlflowStore.open(None, {str(folder / ".rayline")!r})
versions = store.versions("breast-cancer")
study = store.run(store.run(versions[1].run_id).parent)
print(json.dumps({{
    "numbers": [each.number for each in versions],
    "champion": store.version("breast-cancer", "@champion").number,
    "trials": len(store.children(study.run_id)),
    "files": list(store.run(versions[0].run_id).files),
    "tags": dict(versions[2].tags),
}}))
"""
    told = json.loads(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()[
            -1
        ]
    )
    assert told["numbers"] == [1, 2, 3]
    assert told["champion"] == 2
    assert told["trials"] == 6
    assert {"config.yaml", "plots/loss_curve.png", "plots/confusion_matrix.png"} <= set(told["files"])
    assert any("of canary v3" in value for value in told["tags"].values()), told["tags"]


def test_nothing_of_it_is_left_running(shown: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = shown
    listing = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    assert not [line for line in listing.splitlines() if str(folder) in line]
