"""One local Ray cluster for the whole layer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ray


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Connect to a Ray of two processors that only this session uses."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
