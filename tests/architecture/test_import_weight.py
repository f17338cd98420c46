"""`import rayline` and `rayline --help` load nothing heavy."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest

HEAVY = ("torch", "mlflow", "ray", "sklearn", "pandas", "pyarrow", "matplotlib", "optuna", "numpy", "scipy")


def loaded_after(code: str) -> set[str]:
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(json.loads(output.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import rayline",
        "import rayline.config, rayline.errors, rayline.cluster, rayline.ledger",
        "import rayline.flow",
        "import io, contextlib as c, rayline.cli.app as a\nwith c.redirect_stdout(io.StringIO()): a.run(['--help'])",
    ],
    ids=["package", "light modules", "flow", "help"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert not loaded_after(code) & set(HEAVY)


def test_serving_a_bundle_loads_no_training_side() -> None:
    code = "import rayline.serving.replica, rayline.registry.bundle"
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint([n for n in sys.modules if n.startswith('rayline.')])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "rayline.serving.replica" in loaded
    assert "rayline.training" not in loaded
    assert "rayline.tuning" not in loaded
    assert not loaded_after(code) & {"torch", "mlflow", "optuna", "sklearn", "pandas"}


def test_import_costs_less_than_100_milliseconds_of_processor_time() -> None:
    """Processor time, not wall time: a busy machine must not decide a test."""
    script = "import time; began = time.process_time(); import rayline; print(time.process_time() - began)"
    times = [
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert statistics.median(times) < 0.1


def test_the_process_of_the_skew_test_loads_no_training_side() -> None:
    code = "import rayline.serving.versions.rehearsal, rayline.registry.bundle, rayline.serving.wire.protocol"
    assert not loaded_after(code) & {"torch", "mlflow", "ray", "optuna", "sklearn", "pandas", "pyarrow"}


def test_lineage_needs_no_ray() -> None:
    code = "import rayline.lineage, rayline.cli.lineage_picture, rayline.registry.mlflow_store"
    code += ", rayline.rollout.storage.storage"
    assert not loaded_after(code) & {"torch", "mlflow", "ray", "optuna", "sklearn", "pandas", "pyarrow"}
