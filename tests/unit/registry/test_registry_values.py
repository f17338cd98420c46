"""The pure parts of the stores: parameters as texts, selectors, tracking URIs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.errors import ConfigError, NotFoundError, UsageError
from rayline.registry.mlflow_store import MlflowStore
from rayline.registry.mlflow_values import refuse_relative, shown_uri
from rayline.registry.store import PARAM_LENGTH, Version, flat, selected


def test_parameters_become_dotted_texts() -> None:
    params = {
        "train": {"epochs": 3, "use_gpu": True, "deep": {"rate": 0.5}},
        "hidden": [8, 4],
        "key": None,
        "by": "x",
    }

    assert flat(params) == {
        "train.epochs": "3",
        "train.use_gpu": "true",
        "train.deep.rate": "0.5",
        "hidden": "[8, 4]",
        "key": "null",
        "by": "x",
    }


@given(st.text(min_size=1, max_size=9), st.integers(-9, 30))
def test_a_long_parameter_is_cut_to_what_the_store_takes(part: str, beyond: int) -> None:
    text = (part * (PARAM_LENGTH + 30))[: PARAM_LENGTH + beyond]

    found = flat({"key": text})["key"]

    assert len(found) <= PARAM_LENGTH
    assert found == text if beyond <= 0 else found == f"{text[: PARAM_LENGTH - 1]}…"


def version(number: int, *aliases: str) -> Version:
    return Version("bikes", number, "run", f"models:/bikes/{number}", aliases, {}, 0.0)


VERSIONS = [version(1), version(2, "champion"), version(10, "challenger")]


@pytest.mark.parametrize(
    ("selector", "number"), [("1", 1), ("10", 10), ("@challenger", 10), ("@champion", 2), (None, 2)]
)
def test_a_selector_means_one_version(selector: str | None, number: int) -> None:
    assert selected("bikes", selector, VERSIONS, ["bikes"]).number == number


def test_without_a_champion_the_latest_is_meant() -> None:
    assert selected("bikes", None, [version(2), version(10), version(9)], ["bikes"]).number == 10


@pytest.mark.parametrize(
    ("selector", "error", "rule"),
    [
        ("3", NotFoundError, r"has no version 3\. Its versions: 1, 2, 10"),
        ("@champoin", NotFoundError, "Did you mean 'champion'"),
        ("latest", UsageError, "must be a number"),
        ("-1", UsageError, "must be a number"),
        ("²", UsageError, "must be a number"),
        ("", UsageError, "must be a number"),
    ],
)
def test_a_selector_that_means_none_is_told(selector: str, error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        selected("bikes", selector, VERSIONS, ["bikes"])


def test_an_unknown_model_is_told_with_the_nearest() -> None:
    with pytest.raises(NotFoundError, match=r"model 'bike' has no registered version\. Did you mean 'bikes'"):
        selected("bike", None, [], ["bikes", "flowers"])


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "sqlite:///folder/mlflow.db", "mlruns", "/abs/mlruns"])
def test_a_place_that_is_no_absolute_uri_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"registry\.tracking_uri"):
        refuse_relative(uri)


@pytest.mark.parametrize("uri", ["sqlite:////abs/mlflow.db", "http://host:5000", "postgresql://user:pass@host/db"])
def test_an_absolute_uri_is_taken(uri: str) -> None:
    refuse_relative(uri)


def test_a_password_is_not_shown() -> None:
    assert shown_uri("postgresql://user:secret@host:5432/db") == "postgresql://host:5432/db"
    assert shown_uri("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


def test_sqlite_on_an_object_store_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Set registry\.tracking_uri to a server"):
        MlflowStore.open(None, "s3://bucket/state")
