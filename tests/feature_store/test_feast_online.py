"""Feast's online store behind our seam: what Feast answers, for a key however it is written."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from feast_repository import DRIVERS, EPOCH, Repo
from rayline.cli.app import run
from rayline.config import parse
from rayline.errors import EnvironmentFailed, UsageError
from rayline.features.online import feast_store
from rayline.features.online.declared import HistoryNeed
from rayline.features.online.feast_store import BothStores, FeastStore
from rayline.features.online.lookup import Lookup
from rayline.features.online.opening import beside_feast
from rayline.features.online.seam import OnlineStore


def unopened() -> OnlineStore:
    raise AssertionError("Rayline's own store is not needed")


@pytest.fixture
def store(repo: Repo) -> FeastStore:
    return FeastStore(str(repo.folder))


def last_rows(repo: Repo) -> dict[int, dict[str, Any]]:
    rows = repo.stats.sort_by("event_timestamp").to_pylist()
    return {row["driver_id"]: row for row in rows}


def test_it_gives_the_latest_row_that_feast_materialised(repo: Repo, store: FeastStore) -> None:
    table = f"{repo.source}#driver_stats"
    drivers = list(range(1_000, 1_000 + DRIVERS + 5))
    found = store.get(table, [(driver,) for driver in drivers])
    expected = last_rows(repo)
    asked = repo.store.get_online_features(
        features=["driver_stats:rate", "driver_stats:trips", "driver_stats:note"],
        entity_rows=[{"driver_id": driver} for driver in drivers],
    ).to_dict()
    for place, (driver, each) in enumerate(zip(drivers, found, strict=True)):
        if driver not in expected:
            assert each is None
            continue
        assert each is not None
        assert dict(each.values) == {name: asked[name][place] for name in ("rate", "trips", "note")}
        row = expected[driver]
        assert each.values == {"rate": row["rate"], "trips": row["n_trips"], "note": row["note"]}
        assert each.time == round(row["event_timestamp"].timestamp() * 1e6)
    assert sum(each is not None for each in found) == len(expected) > 50


def test_a_key_is_the_same_key_however_it_is_written(repo: Repo, store: FeastStore) -> None:
    table = f"{repo.source}#driver_stats"
    one, *others = store.get(table, [(1_001,), (1_001.0,), ("1001",), ("01001",), (None,), ("",), ("x",), (2**70,)])
    assert one is not None
    assert others == [one, one, None, None, None, None, None]
    assert store.get(table, []) == store.get(f"{repo.source}#cars", []) == []
    assert [each and each.values for each in store.get(f"{repo.source}#cars", [("b",), (7,)])] == [{"seats": 6}, None]


def test_threads_may_ask_together(repo: Repo, store: FeastStore) -> None:
    table = f"{repo.source}#driver_stats"
    keys = [(driver,) for driver in range(1_000, 1_000 + DRIVERS)]
    expected = store.get(table, keys)
    with ThreadPoolExecutor(8) as pool:
        assert all(answer == expected for answer in pool.map(lambda _: store.get(table, keys), range(40)))


def config(repo: Repo, view: str) -> Any:
    join = {"name": "driver", "source": f"{repo.source}#{view}", "at": "at", "prefix": "d_"}
    return parse({"name": "p", "data": {"source": "x"}, "features": {"target": "y", "join": [join]}})


def test_a_service_completes_a_row_from_feast_and_forgets_it_after_its_time_to_live(repo: Repo) -> None:
    need = HistoryNeed.of(config(repo, "driver_stats"), ("hour", "d_rate", "d_note"))
    assert need is not None
    need = HistoryNeed.from_json(json.loads(json.dumps(need.to_json())))
    open_, feast = beside_feast(unopened, [each.table for each in need.tables])
    assert feast
    lookup = Lookup(need, ("hour", "d_rate", "d_note"), open_)
    row = last_rows(repo)[1_001]
    seen = row["event_timestamp"].timestamp()
    day = 86_400

    def completed(**given: Any) -> dict[str, Any]:
        (done,) = lookup.completed([{"hour": 5, **given}])
        return done

    known = {"hour": 5, "d_rate": row["rate"], "d_note": row["note"]}
    assert completed(driver_id=1_001, at=seen + day) == known
    assert completed(driver_id="1001", at=seen, d_note="mine") == {**known, "d_note": "mine"}
    nothing = {"hour": 5, "d_rate": None, "d_note": None}
    assert completed(driver_id=1_001, at=seen + day + 1) == completed(driver_id=1_001, at=seen - 1) == nothing
    assert completed(driver_id=1) == nothing
    lookup.close()


def test_without_a_table_of_feasts_the_own_store_is_the_store() -> None:
    assert beside_feast(unopened, ["prices"]) == (unopened, False)


def test_each_table_is_asked_for_where_it_is_kept(repo: Repo) -> None:
    from rayline.features.online.seam import Found

    class Own:
        def get(self, table: str, keys: Any) -> list[Any]:
            return [Found(1, {"table": table}) for _ in keys]

        def close(self) -> None: ...

    both = BothStores(Own)  # type: ignore[arg-type]
    assert both.get("prices", [(1,)]) == [Found(1, {"table": "prices"})]
    assert both.get(f"{repo.source}#cars", [("b",)])[0].values == {"seats": 6}  # type: ignore[union-attr]
    both.close()


def test_a_service_may_have_the_repository_elsewhere(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(feast_store.VARIABLE, str(repo.folder))
    (found,) = BothStores(unopened).get("feast:/nowhere#cars", [("b",)])
    assert found is not None
    assert found.time == round(EPOCH.timestamp() * 1e6) + 5 * 3_600_000_000


def test_feast_alone_writes_its_store(repo: Repo, store: FeastStore) -> None:
    with pytest.raises(UsageError, match=r"feast -c .* materialize-incremental"):
        store.put(f"{repo.source}#cars", ["seats"], [("b",)], [1], [[1]])


def test_a_service_that_cannot_look_up_says_why_and_blames_no_request(repo: Repo) -> None:
    with pytest.raises(EnvironmentFailed, match="does not keep the feature view 'offline_only' online"):
        FeastStore(str(repo.folder)).get(f"{repo.source}#offline_only", [(1,)])
    with pytest.raises(EnvironmentFailed, match="no Feast repository"):
        BothStores(unopened, ["feast:/nowhere#v"]).get("feast:/nowhere#v", [(1,)])


def test_materialize_leaves_feasts_tables_to_feast(
    repo: Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "project.yaml").write_text(
        f"name: p\ndata: {{source: labels.csv}}\nfeatures:\n  target: y\n  join:\n"
        f"    - {{name: driver, source: 'feast:{repo.folder}#driver_stats', at: at}}\n"
        "    - {name: town, source: towns.csv, keys: [town], time: seen, at: at}\n"
    )
    (tmp_path / "towns.csv").write_text("town,seen,people\na,2024-01-01,5\nb,2024-01-01,6\n")
    assert run(["features", "materialize", str(tmp_path / "project.yaml")]) == 0
    said = capsys.readouterr().out
    assert f"left to Feast, which writes it by feast -c {repo.folder} materialize-incremental" in said
    assert "the store has 2 keys" in said
