"""The end-to-end layer: real clusters, real HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Ray 2.60 warns of its own code, which no caller can change.
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


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """Give each file the variables of the shell: a connection to a cluster leaves that cluster's behind."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
