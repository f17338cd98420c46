"""A table from Python is a source like any other, known by its rows."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

from rayline.config import DataConfig, SplitConfig, SqlConfig
from rayline.errors import DataError, NotFoundError, UsageError
from rayline.features.sources import handed_over, read_table, source_digest, too_large

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})


def test_arrow_and_pandas_are_read_back() -> None:
    for data in (TABLE, TABLE.to_pandas(), TABLE.to_batches()[0]):
        found = handed_over(data)
        assert read_table(found).to_pydict() == TABLE.to_pydict()
        assert source_digest(found) == found.source.removeprefix("python:")
        assert not too_large(found)


def test_the_index_of_a_frame_is_no_column() -> None:
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=[7, 8, 9])
    assert read_table(handed_over(frame[frame["a"] > 1])).to_pydict() == {"a": [2, 3]}


def test_equal_rows_are_one_source_and_other_rows_another() -> None:
    again = pa.table({"b": TABLE["b"].dictionary_encode(), "a": TABLE["a"].cast(pa.float32())})
    assert handed_over(again).source == handed_over(TABLE).source
    assert handed_over(TABLE.take([1, 0, 2])).source != handed_over(TABLE).source
    assert handed_over(TABLE.rename_columns(["a", "c"])).source != handed_over(TABLE).source


def test_it_takes_the_place_of_the_source_and_leaves_the_split() -> None:
    split = SplitConfig(by="hash", key="a")
    for before in (DataConfig(source="t.csv", split=split), DataConfig(sql=SqlConfig(query="SELECT 1"), split=split)):
        after = handed_over(TABLE, before)
        assert after == DataConfig(source=after.source, split=split)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([1, 2], UsageError, "data is a list, which is no table. Hand over a pyarrow.Table"),
        (TABLE.slice(0, 0), DataError, "has no rows"),
        (pa.table([[1], [2]], names=["a", "a"]), DataError, "has the column 'a' more than once"),
        (pd.DataFrame({"a": [1, "x", [2]]}), DataError, "does not become Arrow"),
    ],
)
def test_what_is_no_table_is_refused(data: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        handed_over(data)


def test_another_process_does_not_know_it() -> None:
    with pytest.raises(NotFoundError, match=r"in a process that is gone\. Hand it over again"):
        read_table(DataConfig(source="python:0123456789abcdef"))
