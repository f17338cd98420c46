"""The layer that needs servers and packages of its own: ``make test-services`` brings them.

Without that environment its tests are skipped, and say so.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from team_services import Bucket, Process, mlflow_server, postgresql, s3

# Ray 2.60, moto and boto warn of their own code, which no caller can change.
OTHERS_OWN_WARNINGS = (
    "ignore:Using extra keyword arguments on `Field` is deprecated:DeprecationWarning",
    "ignore:`use_push_based_shuffle` is deprecated:DeprecationWarning",
    "ignore:`use_polars` is deprecated:DeprecationWarning",
    "ignore:`use_arrow_tensor_v2` is deprecated:DeprecationWarning",
    "ignore:unclosed file .*ray-data-dataset:ResourceWarning",
    "ignore:Exception ignored in. .*ray-data-dataset:pytest.PytestUnraisableExceptionWarning",
    r"ignore:datetime.datetime.utcnow\(\) is deprecated:DeprecationWarning",
)
NEEDED = ("moto", "boto3", "psycopg2")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip with the reason where the packages are not there, and leave others' own warnings out."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    for item in items:
        if not item.path.is_relative_to(Path(__file__).parent):
            continue
        if missing:
            reason = f"{', '.join(missing)} cannot be imported: `make test-services` has an environment with them"
            item.add_marker(pytest.mark.skip(reason=reason))
        for each in OTHERS_OWN_WARNINGS:
            item.add_marker(pytest.mark.filterwarnings(each))


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """Give each file the variables of the shell: a connection to a cluster leaves that cluster's behind."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def postgresql_uri() -> Iterator[str]:
    """The URI of an empty database on a PostgreSQL that this session shares."""
    with postgresql() as uri:
        yield uri


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket on an S3 server that this session shares; ``bucket.env`` has the variables that lead there."""
    with s3(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(scope="session")
def team_mlflow(tmp_path_factory: pytest.TempPathFactory, postgresql_uri: str, bucket: Bucket) -> Iterator[Process]:
    """MLflow's server over both: ``http://127.0.0.1:{team_mlflow.port}``. Whoever kills it starts it again."""
    folder = tmp_path_factory.mktemp("mlflow")
    server = mlflow_server(folder, postgresql_uri, f"s3://{bucket.name}/mlflow", bucket.env)
    try:
        server.start()
        yield server
    finally:
        server.kill()
