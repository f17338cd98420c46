"""A folder of one machine is refused as the storage of a cluster whose other machines do not see it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

from rayline import cluster
from rayline.capacity.reading import of_cluster
from rayline.capacity.shared_folder import seen_elsewhere
from rayline.cli.app import run

JOIN_S = 120.0


def can_unshare() -> bool:
    program = shutil.which("unshare")
    if program is None:
        return False
    return subprocess.run([program, "-m", "-u", "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_unshare(), reason="a node with mounts of its own needs rights to make one")


@contextmanager
def node_elsewhere(head: cluster.LocalCluster, blind: Path) -> Iterator[None]:
    """Start a node with a name and mounts of its own: another machine, as far as files go, that lacks one folder."""
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={head.address}"]
    start += ["--num-cpus=1", "--object-store-memory=100000000", '--resources={"elsewhere": 1}']
    script = f'hostname elsewhere && mount -t tmpfs none "{blind}" && exec "$@"'
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN_PATH"},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": Path(head.token_path).read_text(),  # its file lies in the folder that this node lacks
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    node = subprocess.Popen(
        ["unshare", "-m", "-u", "sh", "-c", script, "sh", *start], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + JOIN_S
        while "elsewhere" not in ray.cluster_resources():
            assert node.poll() is None, "the node ended"
            assert time.monotonic() < deadline, "the node did not join"
            time.sleep(0.1)
        yield
    finally:
        node.terminate()
        node.wait(60)


def test_a_folder_that_another_machine_does_not_see_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    storage = tmp_path / "own"
    (tmp_path / "table.csv").write_text("size,label\n" + "1,a\n2,b\n" * 50)
    values = {"name": "table", "data": {"source": "table.csv"}, "features": {"target": "label"}, "storage": "own"}
    file = tmp_path / "rayline.yaml"
    file.write_text(json.dumps({**values, "service": {"port": 22_250}}))
    try:
        cluster.connect(storage)
        head = cluster.alive(storage)
        assert head is not None
        with node_elsewhere(head, storage):
            assert run(["run", str(file)]) == 3
            said = capsys.readouterr().err
            assert f"storage '{storage}' is a folder of this machine" in said
            assert "Set 'storage' to an object store" in said
            assert not (storage / "features").exists()
            shared = seen_elsewhere(tmp_path, of_cluster(scales=False))
            assert (shared.asked, shared.blind, shared.silent) == (1, (), ())
        assert not list(tmp_path.rglob(".seen-*"))
    finally:
        cluster.stop(storage)
