"""The versions of one replica: loaded in the background, chosen by weight, never answered by one that is not there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rayline.errors import BundleError, NotFoundError, ServiceError
from rayline.registry.bundle import Bundle
from rayline.serving.host import Host
from rayline.serving.traffic.plan import HeaderRoute, LiveVersion, TrafficPlan
from rayline.serving.versions.passing import NotFinite
from rayline.serving.versions.served import Served
from registry_examples import make_bundle, real_table


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> tuple[LiveVersion, LiveVersion]:
    folder = tmp_path_factory.mktemp("bundles")
    first, second = (make_bundle(folder / str(seed), real_table("binary"), seed=seed) for seed in (1, 2))
    return LiveVersion(1, str(first.path), first.digest), LiveVersion(2, str(second.path), second.digest)


@pytest.fixture
def plan(live: tuple[LiveVersion, LiveVersion]) -> TrafficPlan:
    return TrafficPlan.first("churn", live[0]).adding(live[1]).weighing(1, {1: 60, 2: 40})


def ready(plan: TrafficPlan) -> Host:
    host = Host("churn", on_change=lambda: None)
    host.apply(plan, wait=True)
    return host


def test_an_empty_host_says_that_nothing_is_loaded() -> None:
    with pytest.raises(ServiceError, match="no version loaded on this replica yet"):
        Host("churn", on_change=lambda: None).choose(None, None)


def test_sessions_stick_and_a_pin_wins(plan: TrafficPlan) -> None:
    host = ready(plan)
    first = {f"s{number}": host.choose(f"s{number}", None).live.number for number in range(200)}
    again = {f"s{number}": host.choose(f"s{number}", None).live.number for number in range(200)}
    assert first == again
    assert set(first.values()) == {1, 2}
    assert {host.choose(session, "2").live.number for session in first} == {2}


@pytest.mark.parametrize("pinned", ["3", "", "two", "-1"])
def test_a_pin_to_no_live_version_is_refused(plan: TrafficPlan, pinned: str) -> None:
    with pytest.raises(NotFoundError, match="Live: 1, 2"):
        ready(plan).choose(None, pinned)


def test_an_older_plan_changes_nothing(plan: TrafficPlan, live: tuple[LiveVersion, LiveVersion]) -> None:
    host = ready(plan)
    host.apply(TrafficPlan.first("churn", live[0]), wait=True)
    assert host.plan == plan
    assert set(host.table.versions) == {1, 2}


def test_a_version_is_served_only_once_it_has_loaded(plan: TrafficPlan) -> None:
    may_load, changed = threading.Event(), threading.Event()

    def load(service: str, version: LiveVersion, edges: tuple[float, ...]) -> Served:
        if version.number == 2:
            may_load.wait(10)
        return Served.load(service, version, edges)

    host = Host("churn", on_change=lambda: changed.set() if 2 in host.table.versions else None, load=load)
    host.apply(plan)
    deadline = threading.Event()
    while 1 not in host.table.versions:
        deadline.wait(0.01)
    assert {host.choose(f"s{number}", None).live.number for number in range(100)} == {1}
    assert host.report()["loaded"].keys() == {"1"}
    may_load.set()
    assert changed.wait(10)
    assert {host.choose(f"s{number}", None).live.number for number in range(100)} == {1, 2}


def test_a_version_that_cannot_load_is_reported_and_its_share_served_by_the_other(
    live: tuple[LiveVersion, LiveVersion], tmp_path: Path
) -> None:
    broken = LiveVersion(2, str(tmp_path / "nowhere"), "d" * 64)
    host = ready(TrafficPlan.first("churn", live[0]).adding(broken).weighing(1, {1: 10, 2: 90}))
    assert "does not exist" in host.report()["failed"]["2"]
    assert {host.choose(f"s{number}", None).live.number for number in range(100)} == {1}


def test_a_dropped_version_is_gone_and_its_counts_stay(plan: TrafficPlan) -> None:
    host = ready(plan)
    host.table.versions[2].counters.answered(0.01, ["yes"], labelled=True)
    host.apply(plan.weighing(1, {1: 100}).removing(2))
    assert set(host.table.versions) == {1}
    report = host.report()
    assert report["loaded"].keys() == {"1"}
    assert report["stats"]["2"]["requests"] == 1


def test_a_bundle_that_is_not_the_planned_one_is_refused(live: tuple[LiveVersion, LiveVersion]) -> None:
    with pytest.raises(BundleError, match="was deployed from eeee"):
        Served.load("churn", LiveVersion(1, live[0].path, "e" * 64), ())


def test_the_warm_up_measures_what_an_answer_costs(live: tuple[LiveVersion, LiveVersion]) -> None:
    served = Served.load("churn", live[0], ())
    assert served.call_seconds > 0
    assert served.row_seconds >= 0


def test_an_answer_that_is_no_number_is_the_versions_fault(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, real_table("regression"))
    served = Served.load("m", LiveVersion(1, str(bundle.path), bundle.digest), ())
    served.predictor.network.layers[-1][1][:] = float("nan")  # type: ignore[attr-defined]
    with pytest.raises(NotFinite, match="version 1 answered row 0 with nan"):
        served.predict([dict(bundle.example[0])])


def test_answers_are_those_of_the_bundle(live: tuple[LiveVersion, LiveVersion]) -> None:
    bundle = Bundle.load(live[0].path)
    served = Served.load("churn", live[0], ())
    rows = [dict(row) for row in bundle.example]
    assert served.predict(rows).records == bundle.predictor().predict(rows).records()


def test_a_header_route_wins_over_weights_and_sessions_and_a_pin_over_it(plan: TrafficPlan) -> None:
    host = ready(
        plan.weighing(1, {1: 100}).routing([HeaderRoute("X-Team", "blue", 2), HeaderRoute("x-team", "red", 1)])
    )
    assert host.choose("s1", None, [(b"x-team", b"blue")]).live.number == 2
    assert host.choose(None, None, [(b"x-team", b"red")]).live.number == 1
    assert host.choose(None, "1", [(b"x-team", b"blue")]).live.number == 1
    assert host.choose(None, None, [(b"x-team", b"green")]).live.number == 1


def test_a_version_that_moves_answers_from_the_old_place_until_the_new_one_is_ready_and_counts_on(
    plan: TrafficPlan,
) -> None:
    may_load, changed = threading.Event(), threading.Event()

    def load(service: str, version: LiveVersion, edges: tuple[float, ...]) -> Served:
        if version.placement == "remote":
            may_load.wait(10)
        return Served.load(service, version, edges)

    host = Host("churn", on_change=changed.set, load=load)
    host.apply(plan, wait=True)
    host.choose(None, "2").counters.failed(0.1)
    host.apply(plan.placing(2, "remote"))
    assert host.choose(None, "2").live.placement == "inline"
    changed.clear()
    may_load.set()
    assert changed.wait(10)
    assert host.choose(None, "2").live.placement == "remote"
    assert host.report()["placed"] == {"1": "inline", "2": "remote"}
    assert host.report()["stats"]["2"]["errors"] == 1


def test_a_move_that_fails_is_told_and_the_old_place_serves_on(plan: TrafficPlan) -> None:
    def load(service: str, version: LiveVersion, edges: tuple[float, ...]) -> Served:
        if version.placement == "remote":
            raise BundleError("no room")
        return Served.load(service, version, edges)

    host = Host("churn", on_change=lambda: None, load=load)
    host.apply(plan, wait=True)
    moved = plan.placing(2, "remote")
    host.apply(moved, wait=True)
    assert host.report()["failed"] == {"2": "BundleError: no room"}
    assert host.choose(None, "2").live.placement == "inline"
    host.apply(moved.placing(2, "inline"), wait=True)
    assert host.report()["failed"] == {}
