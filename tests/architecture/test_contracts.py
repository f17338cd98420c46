"""The laws of the tree, checked: import contracts, vendor doors, file sizes, forbidden names."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "rayline").rglob("*.py"))
MOST_LINES = 400
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "core", "common", "misc"}

DOORS = {
    "mlflow": {"registry/mlflow_store.py", "registry/mlflow_door.py", "registry/pyfunc.py"},
    "optuna": {"tuning/samplers.py", "tuning/schedulers.py", "tuning/importance.py"},
    "xgboost": {"libraries/boosting.py", "training/families/xgboost.py"},
    "feast": {"features/joins/feast.py"},
}

THROUGH_ANOTHER = {"cmaes": r"samplers\.CmaEsSampler"}
"""Packages that another one imports: what of it needs them."""


def test_imports_run_one_way() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command is not None
    checked = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_a_wrong_import_would_be_caught(tmp_path: Path) -> None:
    """The contract is worth something only where it can fail."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    router = tmp_path / "src" / "rayline" / "serving" / "traffic" / "router.py"
    router.write_text(f"import rayline.training.loop\n{router.read_text()}")
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    checked = subprocess.run(
        [str(command), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path / "src"), "PATH": "/usr/bin:/bin"},
    )
    assert checked.returncode != 0, checked.stdout
    assert "The serving side never imports the training side" in checked.stdout


@pytest.mark.parametrize(("vendor", "door"), DOORS.items())
def test_one_door_to_each_vendor(vendor: str, door: set[str]) -> None:
    pattern = re.compile(rf"^\s*(import {vendor}\b|from {vendor}\b)", re.MULTILINE)
    users = {str(file.relative_to(ROOT / "src" / "rayline")) for file in SOURCES if pattern.search(file.read_text())}
    assert users
    assert users <= door


@pytest.mark.parametrize(
    ("call", "door"),
    [
        (r"import (TorchTrainer|XGBoostTrainer)", {"training/trainer.py"}),
        (r"\bTuner\(", set()),  # trials run on our own warm workers
        (r"serve\.run(_many)?\(", {"serving/starting.py"}),
        (r"ray\.init\(", {"cluster.py"}),
    ],
)
def test_one_place_for_each_call(call: str, door: set[str]) -> None:
    users = {str(file.relative_to(ROOT / "src" / "rayline")) for file in SOURCES if re.search(call, file.read_text())}
    assert users == door


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT / "src" / "rayline")))
def test_each_file_has_one_job(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MOST_LINES
    assert file.stem not in FORBIDDEN_NAMES


def test_nothing_that_is_kept_or_served_is_pickled() -> None:
    """Partial results that cross between our own Ray workers, and are gone with them, are the one exception."""
    pattern = re.compile(r"^\s*(import|from) (pickle|cloudpickle|joblib|dill)\b", re.MULTILINE)
    assert [file.name for file in SOURCES if pattern.search(file.read_text())] == ["blocks.py"]


def test_each_dependency_names_a_file_that_needs_it() -> None:
    lines = (ROOT / "pyproject.toml").read_text().split("dependencies = [", 1)[1].split("]\n", 1)[0].splitlines()
    for line in filter(str.strip, lines):
        files = re.findall(r"[\w/]+\.py", line.partition("#")[2])
        assert files, f"names no file: {line}"
        package = re.search(r'"([\w-]+)', line)
        assert package is not None
        module = {"scikit-learn": "sklearn", "PyYAML": "yaml"}.get(package[1], package[1])
        needed = THROUGH_ANOTHER.get(module, rf"\b(import|from) {module}\b")
        for file in files:
            text = (ROOT / "src" / "rayline" / file).read_text()
            assert re.search(needed, text), f"{file} does not import {module}"
