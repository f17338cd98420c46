"""A version keeps the contract of the stable one, or it is not live."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rayline.errors import BundleError
from rayline.serving.traffic.plan import LiveVersion
from rayline.serving.versions.acceptance import answers_its_example, keeps_the_contract
from rayline.serving.versions.passing import NotFinite
from rayline.serving.versions.served import Served
from registry_examples import make_bundle, real_table


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    folder = tmp_path_factory.mktemp("bundles")
    table = real_table("binary")
    tables = {
        "stable": table,
        "same": table,
        "fewer": table.drop_columns(["mean area"]),
        "labels": real_table("multiclass"),
        "numbers": real_table("regression"),
    }
    return {name: loaded(folder / name, tables[name], number) for number, name in enumerate(tables, start=1)}


def loaded(folder: Path, table: object, number: int) -> Served:
    bundle = make_bundle(folder, table, seed=number)  # type: ignore[arg-type]
    return Served.load("churn", LiveVersion(number, str(bundle.path), bundle.digest), ())


def test_the_same_columns_are_taken(served: dict[str, Served]) -> None:
    keeps_the_contract(served["same"], served["stable"])
    keeps_the_contract(served["numbers"], None)
    keeps_the_contract(served["stable"], served["stable"])
    answers_its_example(served["same"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fewer", r"version 3 cannot answer what stable version 1 is asked: row 0, column 'mean area'"),
        ("labels", r"version 4 cannot answer what stable version 1 is asked: row 0, column"),
        ("numbers", r"version 5 answers numbers, and stable version 1 class labels; serve it under another name"),
    ],
)
def test_another_contract_is_refused(served: dict[str, Served], name: str, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        keeps_the_contract(served[name], served["stable"])


def test_one_row_that_can_be_read_is_enough(served: dict[str, Served]) -> None:
    stable = served["stable"]
    rows = [{**row, "mean area": "large"} for row in stable.bundle.example[:-1]]
    asked = replace(stable.bundle, example=(*rows, stable.bundle.example[-1]))
    keeps_the_contract(served["same"], replace(stable, bundle=asked))


def test_an_example_answered_by_no_number_is_refused(served: dict[str, Served]) -> None:
    same = served["same"]
    spoilt = replace(same.predictor, network=lambda matrix: np.full((len(matrix), 1), np.nan))
    with pytest.raises(NotFinite, match="version 2 answered row 0 with nan"):
        answers_its_example(replace(same, predictor=spoilt))
