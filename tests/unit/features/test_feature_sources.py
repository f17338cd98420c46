"""A source is read the same from every format, and what cannot be read is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from rayline.config import DataConfig
from rayline.errors import DataError, EnvironmentFailed, NotFoundError
from rayline.features import sources
from rayline.features.sources import read_table, source_digest, too_large

CSV = "id,name,price\n1,a,0.5\n2,,\n3,c d,2\n"
TABLE = pa.table({"id": [1, 2, 3], "name": ["a", None, "c d"], "price": [0.5, None, 2.0]})


def read(path: Path | str) -> pa.Table:
    return read_table(DataConfig(source=str(path)))


def test_every_format_gives_the_same_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CSV)
    (tmp_path / "t.tsv").write_text(CSV.replace(",", "\t"))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TABLE.to_pylist()))
    pyarrow.parquet.write_table(TABLE, tmp_path / "t.parquet")
    for path in tmp_path.iterdir():
        assert read(path).to_pydict() == TABLE.to_pydict(), path.name


def test_a_glob_a_folder_and_a_uri_name_files_in_order(tmp_path: Path) -> None:
    for index in (2, 0, 1):
        (tmp_path / f"part-{index}.csv").write_text(f"a,b\n{index},x\n")
    (tmp_path / "notes.txt").write_text("no data")
    for source in (f"{tmp_path}/part-*.csv", str(tmp_path), tmp_path.as_uri(), f"{tmp_path}/part-[012].csv"):
        assert read(source).column("a").to_pylist() == [0, 1, 2]


def test_files_may_order_their_columns_otherwise_and_widen_numbers(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "2.csv").write_text("b,a\ny,0.5\n")
    assert read(tmp_path).to_pydict() == {"a": [1.0, 0.5], "b": ["x", "y"]}


def test_the_format_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "table.data").write_text(CSV)
    assert read_table(DataConfig(source=str(tmp_path / "table.data"), format="csv")).num_rows == 3
    with pytest.raises(DataError, match=r"'table\.data' tells no format.*data\.format"):
        read(tmp_path / "table.data")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"t\.csv' is empty"),
        ("a,b\n", "has a header and no rows"),
        ("a,b\n1,2\n3\n", "is not valid csv: .*Expected 2 columns, got 1"),
        ("a,a\n1,2\n", "has the column 'a' more than once"),
        ("\n\n", r"t\.csv' is empty"),
        ("a;b\n1;2\n", r"one column, 'a;b': .* separated by ';'\. Set data\.delimiter to ';'"),
        ("a;b\n1,5;2\n", r"Expected 1 columns, got 2.*set data\.delimiter"),
        ('a,b\n"x,1\n2,3\n', "is not valid csv"),
        ("n\xe9,b\n1,2\n".encode("latin-1"), "its header is not UTF-8 text"),
        ("a,b\nn\xe9,2\n".encode("latin-1"), "column 'a' is not UTF-8 text. Save the file as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "It is UTF-16: save the file as UTF-8"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.parquet", b"", "is empty"),
        ("t.parquet", b"no parquet at all", "is not valid parquet"),
        ("t.jsonl", b"", "is empty"),
        ("t.jsonl", b'{"a": 1}\n{"a":\n', "is not valid jsonl: .*Each line must be one JSON object"),
        ("t.json", b'[{"a": 1}]', "Each line must be one JSON object"),
        ("t.csv.gz", b"no gzip", "cannot be read"),
        ("t.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    damaged_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet' cannot be read: .*[Cc]orrupt"):
        read(tmp_path / "t.parquet")


def damaged_parquet(file: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"a": list(range(5_000))}), file)
    content = bytearray(file.read_bytes())
    for place in range(2_000, 2_400):
        content[place] ^= 0xFF
    file.write_bytes(content)


def test_a_byte_order_mark_is_no_part_of_a_name_and_a_value_may_have_lines(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n1,"x\ny"\r\n2,"say ""hi"""\r\n')
    assert read(tmp_path / "t.csv").to_pydict() == {"a": [1, 2], "b": ["x\ny", 'say "hi"']}
    (tmp_path / "t.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert read(tmp_path / "t.jsonl").to_pydict() == {"a": [1]}


def test_the_delimiter_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;b\n1;0,5\n")
    data = DataConfig(source=str(tmp_path / "t.csv"), delimiter=";")
    assert read_table(data).to_pydict() == {"a": [1], "b": ["0,5"]}


def test_folders_that_say_a_value_are_columns(tmp_path: Path) -> None:
    for year in (2011, 2012):
        (tmp_path / f"year={year}").mkdir()
        pyarrow.parquet.write_table(pa.table({"a": [year - 2010]}), tmp_path / f"year={year}" / "p.parquet")
    (tmp_path / "_temporary").mkdir()
    (tmp_path / "_temporary" / "p.parquet").write_text("half written")
    assert read(tmp_path).to_pydict() == {"a": [1, 2], "year": ["2011", "2012"]}


def test_files_of_two_formats_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match=r"holds csv \('a\.csv'\) and jsonl \('b\.jsonl'\)\. Name the files"):
        read(tmp_path)
    assert read(f"{tmp_path}/*.csv").num_rows == 1


def test_a_filesystem_that_only_fsspec_knows() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/shop/1.csv": b"a,b\n1,x\n", "/shop/2.csv.gz": gzip.compress(b"a,b\n2,y\n"), "/shop/notes": b""})
    try:
        for source in ("memory://shop", "memory://shop/*.csv*"):
            assert read(source).to_pydict() == {"a": [1, 2], "b": ["x", "y"]}
        before = source_digest(DataConfig(source="memory://shop"))
        assert source_digest(DataConfig(source="memory://shop")) == before
        memory.pipe("/shop/1.csv", b"a,b\n3,x\n")
        assert source_digest(DataConfig(source="memory://shop")) != before
        with pytest.raises(NotFoundError, match=r"'memory://shop/3\.csv' does not exist"):
            read("memory://shop/3.csv")
    finally:
        memory.rm("/shop", recursive=True)


def test_a_client_that_is_not_installed_is_named() -> None:
    with pytest.raises(EnvironmentFailed, match=r"needs a client library that is not installed .*Install adlfs"):
        read("az://container/table.csv")


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "bikes.csv").write_text(CSV)
    with pytest.raises(NotFoundError, match=r"bike\.csv' does not exist\. Did you mean 'bikes\.csv'"):
        read(tmp_path / "bike.csv")
    with pytest.raises(NotFoundError, match=r"\*\.parquet' does not exist"):
        read(tmp_path / "*.parquet")
    with pytest.raises(NotFoundError, match="cannot be opened"):
        read("nowhere://bucket/table.csv")


def test_files_of_one_source_need_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("a,c\n1,2\n")
    with pytest.raises(DataError, match=r"2\.csv' does not have .* '.*1\.csv': it lacks b and has c besides"):
        read(tmp_path)


def test_files_of_one_source_need_types_that_agree(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a\n1\n")
    (tmp_path / "2.csv").write_text("a\nx\n")
    with pytest.raises(DataError, match=r"disagree on a column's type: 'a' is string in '.*2\.csv' and int64 in"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "rows", "classes"),
    [
        ("breast_cancer", 569, {"malignant", "benign"}),
        ("digits", 1797, {str(digit) for digit in range(10)}),
        ("iris", 150, {"setosa", "versicolor", "virginica"}),
        ("wine", 178, {"class_0", "class_1", "class_2"}),
    ],
)
def test_bundled_sets_have_their_class_names(name: str, rows: int, classes: set[str]) -> None:
    table = read(f"sklearn:{name}")
    assert table.num_rows == rows
    assert set(table.column("target").to_pylist()) == classes


def test_a_bundled_regression_has_numbers() -> None:
    assert pa.types.is_floating(read("sklearn:diabetes").column("target").type)


def test_an_unknown_bundled_set_names_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'digits'"):
        read("sklearn:digit")


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(CSV)
    data = DataConfig(source=str(file))
    before = source_digest(data)
    file.touch()
    assert source_digest(data) == before
    file.write_text(CSV.replace("0.5", "0.6"))
    assert source_digest(data) != before
    assert source_digest(DataConfig(source="sklearn:iris")) != source_digest(DataConfig(source="sklearn:wine"))


def test_what_compressed_files_take_in_memory_decides_how_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"a": [7] * 100_000})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet", use_dictionary=False)
    pyarrow.csv.write_csv(table, tmp_path / "t.csv")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    for name in ("t.parquet", "t.csv.gz"):
        size = (tmp_path / name).stat().st_size
        monkeypatch.setattr(sources, "ONE_READ_BYTES", size + 1)
        assert too_large(DataConfig(source=str(tmp_path / name))), name


def test_the_head_of_a_file_ends_after_a_whole_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f'{row},"line\nof {row}"\n' for row in range(100)))
    for size in range(60, 90):
        monkeypatch.setattr(sources, "HEAD_BYTES", size)
        head = read_table(DataConfig(source=str(tmp_path / "t.csv")), head=True)
        assert head.to_pylist() == [{"a": row, "b": f"line\nof {row}"} for row in range(head.num_rows)]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_head_of_a_large_file_is_enough_to_infer_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    table = pa.table({"a": list(range(1_000)), "b": [f"t{index}" for index in range(1_000)]})
    file = tmp_path / f"t.{ending}"
    if ending == "parquet":
        pyarrow.parquet.write_table(table, file, row_group_size=100)
    elif ending == "csv":
        file.write_text("a,b\n" + "".join(f"{row['a']},{row['b']}\n" for row in table.to_pylist()))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    monkeypatch.setattr(sources, "HEAD_BYTES", 1_000)
    monkeypatch.setattr(sources, "ONE_READ_BYTES", 1_000)
    data = DataConfig(source=str(file))
    assert too_large(data)
    head = read_table(data, head=True)
    assert 20 < head.num_rows < 200
    assert head.to_pydict() == table.slice(0, head.num_rows).to_pydict()
