"""The leakage report: what gives the target away is found, and sound data raises no alarm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayline.config import Config, DataConfig, FeaturesConfig, PoliciesConfig, SplitConfig, ValidateConfig
from rayline.errors import ValidationFailed
from rayline.features.leakage.report import Leak, leakage, refuse_leaks, told
from rayline.features.schemas.inference import infer, schema_for
from rayline.features.sources import read_table

DATA = Path(__file__).parents[3].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")

CHANCE = np.random.default_rng(11)
N = 1_000
NOISE = CHANCE.normal(size=N)
CODE = np.arange(N) * 7 % 5


def leaks_of(table: pa.Table, target: str = "y", split: SplitConfig | None = None) -> dict[str, Leak]:
    schema = schema_for(FeaturesConfig(target=target), table)
    return {each.kind: each for each in leakage(table, schema, split or SplitConfig())}


def gapped(values: np.ndarray, every: int = 3) -> pa.Array:
    return pa.array(values, mask=np.arange(len(values)) % every == 0)


@needs_data
def test_bike_rentals_without_a_hint() -> None:
    found = leaks_of(read_table(DataConfig(source=str(DATA / "bike_hour.csv"))), "cnt")
    assert set(found) == {"identifier", "sum", "time"}
    assert (found["identifier"].columns, found["sum"].columns) == (("instant",), ("casual", "registered"))
    assert found["sum"].reason.startswith("casual + registered = cnt")
    assert "by: time, column: dteday" in found["time"].reason


@needs_data
def test_electricity_prices_leak_nothing() -> None:
    assert leaks_of(read_table(DataConfig(source=str(DATA / "elec.csv"))), "class") == {}


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "digits", "iris", "wine"])
def test_bundled_sets_leak_nothing(name: str) -> None:
    assert leaks_of(read_table(DataConfig(source=f"sklearn:{name}")), "target") == {}


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (gapped(NOISE * 2 + 1), "correlation 1.00000"),
        (gapped(np.exp(NOISE)), "correlation of ranks 1.00000"),
        (np.datetime64("2020-01-01T00:00", "us") + (NOISE * 1e9).astype("timedelta64[us]"), "correlation"),
    ],
    ids=["a line with gaps", "a curve", "a time"],
)
def test_a_number_that_follows_another(column: object, reason: str) -> None:
    found = leaks_of(pa.table({"x": CHANCE.normal(size=N), "leak": column, "y": NOISE}))
    assert set(found) == {"alone"}
    assert found["alone"].columns == ("leak",)
    assert reason in found["alone"].reason


def test_levels_that_stand_for_numbers() -> None:
    amounts = np.array([3.5, 90.25, 17.0, -4.5, 60.125])[CODE]
    wide = amounts + CHANCE.normal(size=N) * 1e-3
    names = np.array(["c", "a", "e", "b", "d"])[CODE]
    found = leaks_of(pa.table({"x": CHANCE.normal(size=N), "name": names, "y": wide}))
    assert found["alone"].columns == ("name",)
    assert "each value goes with one number" in found["alone"].reason
    assert "alone" not in leaks_of(pa.table({"x": CHANCE.normal(size=N), "name": names, "y": wide + NOISE * 20}))


def test_codes_in_any_order_that_stand_for_classes() -> None:
    table = pa.table({"x": NOISE, "code": np.array([30.5, 1.5, 7.5, 90.5, 4.5])[CODE], "y": (CODE % 2).astype(str)})
    assert leaks_of(table)["alone"].columns == ("code",)


def test_a_value_that_is_only_there_for_one_class() -> None:
    label = np.where(CHANCE.random(N) < 0.2, "left", "stays")
    reasons = pa.array(CHANCE.choice(["price", "move"], N), mask=label == "stays")
    found = leaks_of(pa.table({"x": NOISE, "reason": reasons, "y": label}))
    assert found["alone"].columns == ("reason",)
    assert "whether it has a value tells it" in found["alone"].reason


def test_a_class_of_nearly_all_rows_is_told_by_nothing() -> None:
    label = np.where(np.arange(20_000) < 3, "rare", "usual")
    CHANCE.shuffle(label)
    table = pa.table({"x": CHANCE.normal(size=20_000), "c": CHANCE.choice(["a", "b"], 20_000), "y": label})
    assert leaks_of(table) == {}


def test_parts_with_gaps_add_up() -> None:
    first, second, third = (CHANCE.normal(size=N) for _ in range(3))
    pair = pa.table({"a": gapped(first, 5), "b": gapped(second, 7), "y": first - second})
    assert leaks_of(pair)["sum"].reason.startswith("a - b = y")
    more = pa.table({"a": gapped(first, 5), "b": second, "c": third, "x": NOISE, "y": first + second - third})
    assert leaks_of(more)["sum"].columns == ("a", "b", "c")


def test_what_is_dropped_leaks_nothing() -> None:
    table = pa.table({"x": CHANCE.normal(size=N), "leak": NOISE, "y": NOISE})
    schema = schema_for(FeaturesConfig(target="y", drop=("leak",)), table)
    assert leakage(table, schema, SplitConfig()) == ()


def test_copies_on_both_sides() -> None:
    half = CHANCE.normal(size=500)
    table = pa.table({"a": np.tile(half, 2), "b": np.tile(half[::-1], 2), "y": CHANCE.normal(size=N)})
    reason = leaks_of(table)["duplicates"].reason
    assert "have the very inputs of a training row" in reason
    few = pa.table({"a": CHANCE.choice(["x", "y"], N), "y": CHANCE.normal(size=N)})
    assert leaks_of(few) == {}


def test_a_date_after_the_event() -> None:
    opened = np.datetime64("2021-01-01", "us") + np.sort(CHANCE.integers(0, 10**13, N)).astype("timedelta64[us]")
    later = np.where(np.arange(N) % 2, opened + np.timedelta64(3, "D"), opened - np.timedelta64(3, "D"))
    before = opened - np.timedelta64(9, "D")
    table = pa.table({"opened": opened, "closed": later, "born": before, "y": CHANCE.normal(size=N)})
    found = leaks_of(table, split=SplitConfig(by="time", column="opened"))
    assert set(found) == {"time"}
    assert found["time"].columns == ("closed",)
    assert "is later than 'opened' in 50.0% of rows" in found["time"].reason


@pytest.mark.parametrize("classes", [False, True])
def test_neighbours_in_time_that_are_alike(classes: bool) -> None:
    steps = CHANCE.normal(size=N).cumsum()
    target = np.where(steps > np.median(steps), "up", "down") if classes else steps
    days = np.datetime64("2020-01-01", "D") + np.arange(N).astype("timedelta64[D]")
    table = pa.table({"day": days, "x": NOISE, "y": target})
    assert "{by: time, column: day}" in leaks_of(table)["time"].reason
    assert leaks_of(table, split=SplitConfig(by="time", column="day")) == {}
    assert leaks_of(table.take(CHANCE.permutation(N))) == {}
    assert leaks_of(pa.table({"day": days, "x": NOISE, "y": CHANCE.permutation(target)})) == {}


def test_rows_of_one_key_that_are_alike() -> None:
    customer = CHANCE.integers(0, 60, N)
    table = pa.table({"customer_id": customer, "x": NOISE, "y": customer % 9 + CHANCE.normal(size=N) * 0.5})
    found = leaks_of(table)
    assert found["key"].columns == ("customer_id",)
    assert "{by: hash, key: customer_id}" in found["key"].reason
    assert leaks_of(table, split=SplitConfig(key="customer_id")) == {}
    assert leaks_of(pa.table({"humid": customer, "x": NOISE, "y": table.column("y")})) == {}
    assert leaks_of(pa.table({"customer_id": customer, "x": NOISE, "y": CHANCE.normal(size=N)})) == {}


def test_a_leak_stops_a_run_where_the_configuration_says_so() -> None:
    table = pa.table({"x": CHANCE.normal(size=N), "leak": NOISE, "y": NOISE})
    schema = schema_for(FeaturesConfig(target="y"), table)

    def config(policy: str) -> Config:
        checks = ValidateConfig(policies=PoliciesConfig(leakage=policy))  # type: ignore[arg-type]
        data, features = DataConfig(source="t.csv"), FeaturesConfig(target="y")
        return Config(name="t", data=data, features=features, validate=checks)

    refuse_leaks(table, schema, config("warn"))
    with pytest.raises(ValidationFailed, match=r"leak equals the target 'y'\nLeave these columns out"):
        refuse_leaks(table, schema, config("fail"))


def test_leaks_of_a_large_table_are_found_anywhere_in_it() -> None:
    rows = 60_000
    late = CHANCE.normal(size=rows)
    copied = np.where(np.arange(rows) < 25_000, CHANCE.normal(size=rows), late)
    table = pa.table({"x": CHANCE.normal(size=rows), "all": late * 2, "half": copied, "y": late})
    assert leaks_of(table)["alone"].columns == ("all",)


def test_inference_and_report_say_the_same() -> None:
    table = pa.table({"k": np.arange(N), "a": NOISE, "b": CODE.astype(float), "x": NOISE[::-1], "y": NOISE + CODE})
    kinds = {each.kind: each.columns for each in told(infer(table, "y").dropped)}
    assert kinds == {"identifier": ("k",), "sum": ("a", "b")}
