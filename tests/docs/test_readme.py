"""Every command that the README shows is run, and its tree is the real one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayline.config import load
from rayline.tuning.space.space import check

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIKES = ROOT.parent / "shared" / "data" / "bike_hour.csv"
BIN = Path(sys.executable).parent

blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
ON_CLUSTER = [block for block in blocks if "local.sh" in block]
COMMANDS = [
    line[2:]
    for block in blocks
    if block not in ON_CLUSTER
    for line in block.replace("\\\n", "").splitlines()
    if line.startswith("$ ")
]
AT_ROOT = [command for command in COMMANDS if command.startswith("make ")]
IN_PROJECT = [command for command in COMMANDS if command not in AT_ROOT]
LONG = 400


def free_port() -> int:
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port: int = candidate.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not BIKES.exists():
        pytest.skip("the bike rental table is not here: the README's own commands need it")
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(BIKES, folder / "bikes.csv")
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copytree(ROOT / "cluster", folder / "cluster")
    yield folder
    subprocess.run([str(BIN / "rayline"), "stop"], cwd=folder, check=False, capture_output=True)


def test_each_piece_of_a_configuration_is_one(tmp_path: Path) -> None:
    pieces = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert len(pieces) >= 5
    for piece in pieces:
        features = "" if piece.startswith("features:") else "features: {target: cnt}\n"
        (tmp_path / "rayline.yaml").write_text(f"name: bikes\n{features}{piece}")
        config = load(tmp_path / "rayline.yaml")
        if config.tune is not None:
            check(config)


def test_the_commands_were_found() -> None:
    assert [command.split()[1] for command in AT_ROOT] == ["demo", "test"]
    assert any(command.startswith("rayline init") for command in IN_PROJECT)
    assert any(command.startswith("curl") for command in IN_PROJECT)


@pytest.mark.parametrize("command", AT_ROOT)
def test_make_knows_its_targets(command: str) -> None:
    """`make test` is what runs this; `make demo` runs `rayline demo`, which the end-to-end layer runs whole."""
    planned = subprocess.run(
        [*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {"make demo": "rayline demo", "make test": "pytest"}[command] in planned


def test_each_command_for_a_table_of_one_s_own(project: Path) -> None:
    port = free_port()
    for command in IN_PROJECT:
        shown = run_in(project, command, port)
        assert shown.returncode == 0, f"{command}\n{shown.stdout}\n{shown.stderr}"
        if command.startswith("rayline init"):
            file = project / "rayline.yaml"
            file.write_text(file.read_text().replace("port: 8000", f"port: {port}"))
        if command.startswith("curl"):
            answer = json.loads(shown.stdout)
            assert "predictions" in answer or "joined" in answer, shown.stdout


def test_the_commands_for_a_cluster(project: Path) -> None:
    """One shell, as a user has: what `env` prints holds for the rest. The steps are finished already."""
    (block,) = ON_CLUSTER
    script = "\n".join(line[2:] for line in block.splitlines())
    names = ("GCS", "DASHBOARD", "METRICS", "CLIENT", "AGENT", "MLFLOW")
    ports = {f"RAYLINE_{name}_PORT": str(free_port()) for name in names}
    config = load(project / "rayline.yaml")
    given = {**ports, "RAYLINE_SERVE_PORT": str(config.service.port), "PYTHON": sys.executable}
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=project,
        env={**os.environ, **given, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG,
    )
    subprocess.run(["cluster/local.sh", "stop"], cwd=project, env={**os.environ, **given}, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "not running" in done.stdout


def run_in(project: Path, command: str, port: int) -> subprocess.CompletedProcess[str]:
    words = [word.replace(":8000", f":{port}") for word in shlex.split(command)]
    if words[0] == "rayline":
        words[0] = str(BIN / "rayline")
    return subprocess.run(words, cwd=project, capture_output=True, text=True, check=False, timeout=LONG)


def test_the_tree_in_the_readme_is_the_real_one() -> None:
    block = re.search(r"```text\nsrc/rayline/\n(.*?)```", README, re.DOTALL)
    assert block is not None
    named = {line.split()[0].rstrip("/") for line in block[1].splitlines() if line.startswith("  ") and line[2] != " "}
    real = {
        path.name
        for path in (ROOT / "src" / "rayline").iterdir()
        if not path.name.startswith(("_", "py.typed")) and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert named == real
