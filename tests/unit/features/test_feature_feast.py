"""A join from Feast, as far as it goes without Feast: how it is declared, and what is said where Feast is not there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.config import load, parse
from rayline.config.history import feast_place
from rayline.errors import ConfigError, EnvironmentFailed, NotFoundError
from rayline.features.joins.history import table_with_history
from rayline.features.joins.join import join_tables
from rayline.features.joins.tables import JoinSpec


def config(**join: Any) -> dict[str, Any]:
    join = {"name": "driver", "source": "feast:repo#driver_stats", "at": "at", **join}
    return {"name": "p", "data": {"source": "d.csv"}, "features": {"target": "y", "join": [join]}}


def test_a_join_from_feast_needs_neither_keys_nor_time() -> None:
    (join,) = parse(config()).features.join
    assert (join.keys, join.time) == ((), None)
    assert feast_place(str(join.source)) == ("repo", "driver_stats")
    assert feast_place("feast:/a#b/c#view") == ("/a#b/c", "view")
    assert feast_place("s3://feast:a#b") is None


@pytest.mark.parametrize("source", ["feast:repo", "feast:#view", "feast:repo#", "feast:"])
def test_a_source_that_names_no_view_is_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="names no feature view: write feast:FOLDER#VIEW"):
        parse(config(source=source))


def test_a_format_is_for_files() -> None:
    with pytest.raises(ConfigError, match="'format' is for files; Feast knows its own"):
        parse(config(format="parquet"))


@pytest.mark.parametrize(("given", "folder"), [("../repo", "{}/../repo"), ("/srv/repo", "/srv/repo")])
def test_the_folder_is_relative_to_the_configuration(tmp_path: Path, given: str, folder: str) -> None:
    (tmp_path / "p.yaml").write_text(
        "name: p\ndata: {source: d.csv}\nfeatures:\n  target: y\n"
        f"  join: [{{name: d, source: 'feast:{given}#view', at: at}}]\n"
    )
    (join,) = load(tmp_path / "p.yaml").features.join
    assert join.source == f"feast:{folder.format(tmp_path)}#view"


def test_without_feast_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "feast", None)
    monkeypatch.setitem(sys.modules, "feast.errors", None)
    (tmp_path / "feature_store.yaml").write_text("project: p\n")
    features = parse(config(source=f"feast:{tmp_path}#v")).features
    with pytest.raises(EnvironmentFailed, match=r"pip install 'rayline\[feast\]'"):
        table_with_history(features, pa.table({"at": [1]}))


def test_a_folder_without_a_repository_is_named_before_feast_is_loaded(tmp_path: Path) -> None:
    features = parse(config(source=f"feast:{tmp_path}/none#v")).features
    with pytest.raises(NotFoundError, match=r"no Feast repository in '.*none': it has no feature_store\.yaml"):
        table_with_history(features, pa.table({"at": [1]}))


moments = st.none() | st.integers(0, 3)


@given(st.lists(st.tuples(moments, moments), max_size=12), st.integers(0, 4))
def test_of_one_time_the_row_made_last_wins_and_of_one_making_the_last(rows: list[Any], at: int) -> None:
    table = pa.table(
        {
            "k": pa.array(["a"] * len(rows), pa.string()),
            "t": pa.array([time for time, _ in rows], pa.int64()),
            "made": pa.array([made for _, made in rows], pa.int64()),
            "v": pa.array(range(len(rows)), pa.int64()),
        }
    )
    spec = JoinSpec("f", ("k",), "t", "at", None, ("v",), "", "made")
    (found,) = join_tables(pa.table({"k": ["a"], "at": [at]}), table, spec).column("v").to_pylist()
    known = [(time, -1 if made is None else made, v) for v, (time, made) in enumerate(rows) if time is not None]
    assert found == max((each for each in known if each[0] <= at), default=(0, 0, None))[2]
