"""A sample of rows is the same however they were ordered and cut, and a row weighs as often as it occurs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.features.hashing import mix
from rayline.features.sketches import Sample, restored, sample

ROWS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0.0, -0.0, 1.5, float("nan")])), max_size=60)


def of(rows: list[tuple[int, float]]) -> Sample:
    numbers = np.array(rows, dtype=np.float64).reshape(-1, 2)
    # Few different hashes, so that different rows share one.
    return Sample.of(mix(numbers[:, 0].astype(np.uint64) // np.uint64(2)), numbers)


@given(rows=ROWS, data=st.data(), cut=st.integers(1, 10), kept=st.integers(1, 12))
def test_a_sample_does_not_depend_on_order_or_blocks(
    rows: list[tuple[int, float]], data: st.DataObject, cut: int, kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "KEPT", kept)
        moved = data.draw(st.permutations(rows))
        merged = Sample()
        for at in range(0, len(moved), cut):
            merged = merged.merged(of(list(moved[at : at + cut])))
        whole = of(rows)
        assert merged == whole or not rows
        assert len(whole.counts) <= kept
        assert restored(json.loads(json.dumps(whole.to_json()))) == whole
        if len({(number, str(abs(value))) for number, value in rows}) < kept:
            assert sorted(map(str, whole.drawn().tolist())) == sorted(str([float(n), v + 0.0]) for n, v in rows)


def test_a_sample_of_many_rows_is_like_them() -> None:
    chance = np.random.default_rng(3)
    numbers = np.repeat(chance.gamma(2.0, size=(40_000, 1)), chance.integers(1, 4, 40_000), axis=0)
    drawn = Sample.of(mix(numbers[:, 0].view(np.uint64)), numbers).drawn()
    assert len(drawn) == pytest.approx(2 * sample.KEPT, rel=0.05)
    for share in (0.1, 0.5, 0.9):
        assert np.mean(drawn < np.quantile(numbers, share)) == pytest.approx(share, abs=0.03)


def test_many_rows_of_few_kinds_are_drawn_in_their_proportion() -> None:
    numbers = np.repeat([[1.0], [2.0], [3.0]], [900_000, 90_000, 10_000], axis=0)
    drawn = Sample.of(mix(numbers[:, 0].view(np.uint64)), numbers).drawn(1_000)
    assert np.unique(drawn, return_counts=True)[1].tolist() == [900, 90, 10]
