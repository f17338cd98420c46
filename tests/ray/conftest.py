"""One local Ray cluster for the whole layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

# Ray 2.60 warns of its own code, which no caller can change: its Train copies all settings of its Data, old ones too,
# and its Data drops the handler of each execution's log without closing the file.
RAYS_OWN_WARNINGS = (
    "ignore:Using extra keyword arguments on `Field` is deprecated:DeprecationWarning",
    "ignore:`use_push_based_shuffle` is deprecated:DeprecationWarning",
    "ignore:`use_polars` is deprecated:DeprecationWarning",
    "ignore:`use_arrow_tensor_v2` is deprecated:DeprecationWarning",
    "ignore:unclosed file .*ray-data-dataset:ResourceWarning",
    "ignore:Exception ignored in. .*ray-data-dataset:pytest.PytestUnraisableExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave those warnings out in this layer; every other one fails a test."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for each in RAYS_OWN_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(each))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Connect to a Ray of two processors that only this session uses."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def mlflow_loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load MLflow in this thread, alone: it warns while it loads, and what silences that holds for all threads."""
    from rayline.registry.mlflow_store import MlflowStore

    MlflowStore.open(None, tmp_path_factory.mktemp("loaded"))
