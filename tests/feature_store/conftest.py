"""A real Feast repository, made once; without Feast these tests are skipped."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from feast_repository import Repo, made

# Feast, and what it imports, warn of their own code, which no caller can change.
FEASTS_OWN_WARNINGS = (
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
    "ignore::RuntimeWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip with the reason where Feast is not there, and leave its own warnings out."""
    here = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    if not here:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import feast  # noqa: F401
        reason = ""
    except ImportError as error:
        reason = f"Feast cannot be imported ({error}): `make test-feast` runs these in an environment of their own"
    for item in here:
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
        for each in FEASTS_OWN_WARNINGS:
            item.add_marker(pytest.mark.filterwarnings(each))


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Apply and materialise a repository in a folder of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made(tmp_path_factory.mktemp("feast") / "taxi")
