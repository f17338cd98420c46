"""The digest of data and of its parts: the content decides, and neither order nor blocks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.features.hashing import row_hashes
from rayline.features.splits.identity import PartFacts, RowSums
from registry_examples import mixed_table

NAMES = ("b", "a")
words = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2)), max_size=40)


def sums(rows: list[tuple[int, int]]) -> RowSums:
    hashes = np.array([word for word, _ in rows], dtype=np.uint64)
    return RowSums.of(hashes, np.array([part for _, part in rows], dtype=np.int8))


@given(words, st.data())
@settings(deadline=None)
def test_any_order_and_any_cut_give_the_same(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))

    assert sums(shuffled[:cut]).merged(sums(shuffled[cut:])) == sums(rows)


@given(words, words)
@settings(deadline=None)
def test_merging_is_symmetric_and_knows_nothing(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    one, other = sums(left), sums(right)

    assert one.merged(other) == other.merged(one)
    assert one.merged(RowSums()) == one


@given(words)
@settings(deadline=None)
def test_the_whole_is_what_it_is_however_it_is_divided(rows: list[tuple[int, int]]) -> None:
    assert sums(rows).digest(NAMES) == sums([(word, 0) for word, _ in rows]).digest(NAMES)


def test_parts_are_named_and_counted() -> None:
    facts = sums([(5, 0), (6, 0), (5, 2)]).parts(NAMES)

    assert {part: each.rows for part, each in facts.items()} == {"train": 2, "valid": 0, "test": 1}
    assert facts["test"] == sums([(5, 1)]).parts(("a", "b"))["valid"]
    assert len({each.digest for each in facts.values()}) == 3
    assert all(len(each.digest) == 32 for each in facts.values())


def test_rows_in_no_part_count_in_the_whole_alone() -> None:
    hashes = np.array([5, 6, 7], dtype=np.uint64)

    found = RowSums.of(hashes, np.array([0, -1, 1]))

    assert found.parts(NAMES) == sums([(5, 0), (7, 1)]).parts(NAMES)
    assert found.digest(NAMES) == sums([(5, 0), (6, 0), (7, 0)]).digest(NAMES)


def test_one_changed_value_changes_the_digest_of_its_part_alone() -> None:
    def facts(table: pa.Table) -> dict[str, PartFacts]:
        return RowSums.of(row_hashes(table), np.arange(table.num_rows) % 3).parts(table.column_names)

    table = mixed_table()
    grades = table.column("grade").to_pylist()
    grades[4] += 1  # of the part valid
    changed = table.set_column(table.column_names.index("grade"), "grade", pa.array(grades))

    before, after = facts(table), facts(changed)

    assert [part for part in before if before[part] != after[part]] == ["valid"]
