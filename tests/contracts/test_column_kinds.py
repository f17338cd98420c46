"""Every kind of column keeps one contract, with every setting; the cases are in ``column_cases.py``."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from column_cases import CASES, EXAMPLES, REFUSED, SAME, WRONG, WRONG_ARRAYS, Case, Expected
from rayline.errors import RowError
from rayline.features.kinds import KINDS
from rayline.features.state import FitState, merge_all
from rayline.features.transform import FittedFeatureSet

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
some = settings(max_examples=40, deadline=None)


def sent(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def agree(case: Case, found: np.ndarray, expected: np.ndarray) -> None:
    if case.exact:
        assert np.array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_every_kind_has_a_case() -> None:
    """Kinds of several columns, and those that another library fitted, have theirs in test_column_kinds_bridges."""
    assert {case.feature_set.features[0].kind for case in CASES} == set(KINDS) - {"function", "sklearn", "lookup"}


@each_case
@some
@given(data=st.data())
def test_batch_row_and_restored_state_agree(case: Case, data: st.DataObject) -> None:
    EXAMPLES["batch, row, JSON and restored state agree"] += 1
    seen = data.draw(case.rows())
    fitted = case.fitted(seen)
    rows = [*data.draw(case.rows()), *seen]
    batch = fitted.transform(case.table(rows))
    assert batch.shape == (len(rows), fitted.width)
    assert batch.dtype == np.float32
    assert np.isfinite(batch).all()
    agree(case, fitted.rows(rows), batch)
    agree(case, np.stack([fitted.row(row) for row in rows]), batch)
    through_json = json.loads(json.dumps([{key: sent(value) for key, value in row.items()} for row in rows]))
    agree(case, fitted.rows(through_json), batch)
    restored = FittedFeatureSet.from_json(json.loads(json.dumps(fitted.to_json())))
    assert restored == fitted
    assert restored.fingerprint == fitted.fingerprint
    assert np.array_equal(restored.transform(case.table(rows)), batch)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).rows(rows), fitted.rows(rows))


@each_case
@some
@given(data=st.data())
def test_the_fit_does_not_depend_on_blocks_or_order(case: Case, data: st.DataObject) -> None:
    EXAMPLES["fit in any cut and order"] += 1
    rows = data.draw(case.rows())
    size = data.draw(st.integers(1, 10))
    moved = data.draw(st.permutations(rows))
    features = case.feature_set
    whole = features.observe(case.table(rows))
    merged = merge_all(features.observe(case.table(moved[at : at + size])) for at in range(0, len(moved), size))
    assert (merged.columns, merged.extras) == (whole.columns, whole.extras)
    restored = FitState.from_json(json.loads(json.dumps(merged.to_json())))
    assert (restored.columns, restored.extras) == (whole.columns, whole.extras)
    known = features.observe(case.table(case.known_rows(len(rows))))
    first, second = (features.finish(each.merged(known)) for each in (whole, restored))
    assert first.fingerprint == second.fingerprint


@each_case
@some
@given(data=st.data())
def test_training_rows_are_encoded_alike_in_one_go_and_later(case: Case, data: st.DataObject) -> None:
    EXAMPLES["training rows"] += 1
    rows = [*data.draw(case.rows()), *case.known_rows(100)]
    table, cut = case.table(rows), data.draw(st.integers(0, len(rows)))
    fitted, matrix = case.feature_set.fit_transform(table)
    assert np.isfinite(matrix).all()
    assert fitted == case.feature_set.fit(table)
    restored = FittedFeatureSet.from_json(json.loads(json.dumps(fitted.to_json())))
    parts = [restored.transform(part, training=True) for part in (table.slice(0, cut), table.slice(cut))]
    assert np.array_equal(np.concatenate(parts), matrix)
    if getattr(case.setting, "encode", None) != "target":
        assert np.array_equal(fitted.transform(table), matrix)


@pytest.mark.parametrize(
    ("case", "value", "expected"),
    [
        pytest.param(case, value, expected, id=f"{case.name}: {str(value)[:20]}")
        for case in CASES
        for value, expected in case.edges
    ],
)
def test_missing_unknown_infinite_and_extreme_values_are_defined(case: Case, value: Any, expected: Expected) -> None:
    fitted = case.fitted()
    if expected == REFUSED:
        with pytest.raises(RowError, match="row 0, column 'c'"):
            fitted.row({"c": value})
        return
    found = fitted.row({"c": value})
    if callable(expected):
        assert expected(found), found
    else:
        assert found.tolist() == pytest.approx(expected, rel=1e-2, abs=1e-6), found
    assert np.isfinite(found).all()


@each_case
def test_a_missing_value_is_answered_alike(case: Case) -> None:
    fitted, row = case.fitted(), dict.fromkeys(case.inputs)
    nulls = pa.table(dict.fromkeys(case.inputs, pa.nulls(1)))
    for table in (case.table([{**row, "id": 0, "y": case.answers[0]}]), nulls):
        agree(case, fitted.transform(table), fitted.rows([row]))
    assert np.isfinite(fitted.row(row)).all()


@each_case
def test_a_column_without_any_value_can_be_fitted(case: Case) -> None:
    rows = [{**row, **dict.fromkeys(case.inputs)} for row in case.known_rows()]
    if case.kind == "datetime":
        rows = [*rows, *case.known_rows(100)[:2]]
    fitted = case.feature_set.fit(case.table(rows))
    assert np.isfinite(fitted.transform(case.table(case.known_rows()))).all()
    agree(case, fitted.transform(case.table(case.known_rows())), fitted.rows(case.known_rows()))


@pytest.mark.parametrize(
    ("case", "value"),
    [pytest.param(case, value, id=f"{case.name}: {str(value)[:20]}") for case in CASES for value in WRONG[case.kind]],
)
def test_a_wrong_value_names_row_column_value_and_rule(case: Case, value: object) -> None:
    fitted, missing = case.fitted(), dict.fromkeys(case.inputs)
    with pytest.raises(RowError) as caught:
        fitted.rows([missing, {**missing, case.inputs[0]: value}])
    assert (caught.value.row, caught.value.column, caught.value.value) == (1, case.inputs[0], value)
    assert caught.value.rule.startswith("is not ")


@each_case
def test_a_wrong_value_in_a_table_is_named_alike(case: Case) -> None:
    fitted = case.fitted()
    for array in WRONG_ARRAYS[case.kind]:
        table = pa.table({name: array if name == case.inputs[0] else pa.nulls(2) for name in case.inputs})
        with pytest.raises(RowError) as caught:
            fitted.transform(table)
        assert (caught.value.row, caught.value.column) == (1, case.inputs[0])
        assert caught.value.rule.startswith("is not ")
        with pytest.raises(RowError, match="is not "):
            case.feature_set.observe(table.append_column("id", pa.nulls(2)).append_column("y", pa.nulls(2)))


@each_case
def test_an_absent_column_is_refused_with_the_nearest_key(case: Case) -> None:
    fitted, row = case.fitted(), dict.fromkeys(case.inputs)
    with pytest.raises(RowError, match=r"row 1, column .*no such column.*null where unknown"):
        fitted.rows([row, {"other": 1}])


@each_case
def test_every_physical_type_means_the_same(case: Case) -> None:
    fitted, same = case.fitted(), SAME[case.kind]
    expected = fitted.transform(pa.table(dict.fromkeys(case.inputs, same[0])))
    whole = same[0].dictionary_encode() if case.kind not in ("vector", "image") else same[0]
    gap = pa.concat_arrays([same[0][:1], pa.nulls(1, same[0].type), same[0][1:]])
    for array in [*same, whole, pa.chunked_array([same[0][:1], same[0][1:]])]:
        assert np.array_equal(fitted.transform(pa.table(dict.fromkeys(case.inputs, array))), expected)
        padded = pa.concat_arrays([array, array]) if isinstance(array, pa.Array) else array
        assert np.array_equal(fitted.transform(pa.table(dict.fromkeys(case.inputs, padded.slice(1, 1)))), expected[1:])
    assert np.array_equal(fitted.transform(pa.table(dict.fromkeys(case.inputs, gap)))[[0, 2]], expected)


@each_case
def test_an_empty_table_gives_no_rows(case: Case) -> None:
    fitted = case.fitted()
    assert fitted.transform(case.table([])).shape == (0, fitted.width)
    assert fitted.transform(case.table([]), training=True).shape == (0, fitted.width)
    assert fitted.rows([]).shape == (0, fitted.width)
    empty = case.feature_set.observe(case.table([]))
    known = case.feature_set.observe(case.table(case.known_rows()))
    for merged in (empty.merged(known), known.merged(empty)):
        assert case.feature_set.finish(merged).fingerprint == fitted.fingerprint


@each_case
def test_any_mapping_is_a_row(case: Case) -> None:
    class Row(Mapping[str, object]):
        def __getitem__(self, key: str) -> object:
            return dict.fromkeys(case.inputs)[key]

        def __iter__(self) -> Any:
            return iter(case.inputs)

        def __len__(self) -> int:
            return len(case.inputs)

    assert np.array_equal(case.fitted().row(Row()), case.fitted().row(dict.fromkeys(case.inputs)))


@each_case
def test_outputs_have_names_of_their_own(case: Case) -> None:
    names = case.fitted().output_names
    assert len(set(names)) == len(names)
    assert all(name.startswith("f") for name in names)
