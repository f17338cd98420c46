"""A version's blessing: judged, kept with it, and asked at every door; passed by force in a person's name alone."""

from __future__ import annotations

import getpass
from concurrent.futures import Future
from pathlib import Path

import pytest

from rayline import blessing, release
from rayline.config import RolloutConfig, Step, parse
from rayline.errors import CheckFailed, GateRefused, UsageError
from rayline.evaluation.gates import Judged, Judgement
from rayline.events import Event, Notice
from rayline.project import Project
from rayline.registry.memory import MemoryStore
from rayline.registry.store import Version
from rayline.rollout import commands
from rayline.rollout.plans.plan import Plan
from rayline.rollout.policy import verbs
from rayline.rollout.policy.entering import entered
from rayline.rollout.policy.moves import begin
from rayline.rollout.state import RolloutState
from rayline.rollout.storage.storage import RolloutFiles
from rayline.serving.traffic.plan import LiveVersion
from registry_examples import make_bundle, mixed_table, real_table

WORSE = Judged("rmse", "town=x", "failed", "61.2 > champion v1 48 + 2", 212, stops=True)
OPEN = Judged("rmse", "town=y", "inconclusive", "has too few rows to decide: 50 are needed", 3, 50)
NO = Judgement(1, "abc", (WORSE, OPEN))
YES = Judgement(None, None, (OPEN,))


@pytest.fixture
def project(tmp_path: Path) -> tuple[Project, list[Event]]:
    """A project whose store is the double, with one registered version."""
    config = parse(
        {
            "name": "model",
            "data": {"source": "x.csv"},
            "features": {"target": "target"},
            "registry": {"tracking_uri": "http://nowhere"},
            "storage": str(tmp_path / "state"),
        }
    )
    heard: list[Event] = []
    opened, store = Project(config, listener=heard.append), Future[MemoryStore]()
    store.set_result(MemoryStore())
    opened._opening = store  # type: ignore[assignment]
    registered(opened, tmp_path, 0)
    return opened, heard


def registered(project: Project, folder: Path, seed: int) -> Version:
    run = project.store.start_run("e", "r", {})
    return project.store.register(make_bundle(folder, mixed_table(), seed=seed), run)


def tags(project: Project, number: int = 1) -> dict[str, str]:
    return dict(project.store.version("model", str(number)).tags)


def test_a_blessed_version_passes_every_door(project: tuple[Project, list[Event]]) -> None:
    opened, heard = project
    blessing.record(opened.store, opened.store.version("model"), YES)
    blessing.refuse("model", 1, YES)
    assert (tags(opened)[blessing.TAG], heard) == ("yes", [])
    assert blessing.allow(opened, 1, None) == ""
    assert "no baseline" in tags(opened)[blessing.REASONS]


def test_a_refusal_names_each_gate_that_said_no_and_none_besides() -> None:
    with pytest.raises(GateRefused) as refusal:
        blessing.refuse("bike", 4, NO)
    said = str(refusal.value)
    assert "version 4 of 'bike' is registered and not blessed" in said
    assert "\n  rmse of version 4 on town=x (n = 212) 61.2 > champion v1 48 + 2\n" in said
    assert "town=y" not in said
    assert 'rayline rollout start bike --version 4 --force "WHY"' in said
    assert isinstance(refusal.value, CheckFailed)
    assert refusal.value.exit_code == 1
    with pytest.raises(GateRefused, match="rayline deploy bike@1 --force"):
        blessing.refuse("bike", 1, Judgement(None, None, (WORSE,)))


def test_without_force_it_stays_out_and_by_force_it_is_recorded(project: tuple[Project, list[Event]]) -> None:
    opened, heard = project
    blessing.record(opened.store, opened.store.version("model"), NO)
    with pytest.raises(GateRefused, match=r"61\.2 > champion v1 48"):
        blessing.allow(opened, 1, None)
    with pytest.raises(UsageError, match="needs a reason"):
        blessing.allow(opened, 1, "")
    assert tags(opened)[blessing.TAG] == "no"
    words = blessing.allow(opened, 1, "the old labels were wrong")
    assert words == f"let past its gates by {getpass.getuser()}: the old labels were wrong"
    assert tags(opened)[blessing.TAG] == "forced"
    assert tags(opened)[blessing.FORCED_REASON] == "the old labels were wrong"
    assert tags(opened)[blessing.AGAINST] == "1"
    assert blessing.allow(opened, 1, None) == words
    assert isinstance(heard[0], Notice)
    blessing.record(opened.store, opened.store.version("model"), NO)
    assert tags(opened)[blessing.TAG] == "no", "judged anew, the earlier word counts no more"


def test_a_version_from_before_gates_passes_with_a_notice(project: tuple[Project, list[Event]]) -> None:
    opened, heard = project
    assert blessing.allow(opened, 1, None) == ""
    assert [event.text for event in heard if isinstance(event, Notice)] == [
        "version 1 was registered before versions were judged: no gate was asked"
    ]


def test_the_rival_is_the_champion_and_the_champions_is_the_one_before(
    project: tuple[Project, list[Event]], tmp_path: Path
) -> None:
    opened, _ = project
    store, bundle = opened.store, tmp_path / "bundle-0"
    assert blessing.rival_of(opened, bundle) is None
    store.set_alias("model", "champion", 1)
    assert blessing.rival_of(opened, bundle) is None, "the first version is not judged by itself"
    second = registered(opened, tmp_path, 1)
    rival = blessing.rival_of(opened, tmp_path / "bundle-1")
    assert rival is not None
    assert rival.number == 1
    blessing.record(store, second, NO)
    store.set_alias("model", "champion", 2)
    assert blessing.rival_of(opened, tmp_path / "bundle-1") == rival


def test_both_models_answer_the_same_rows(project: tuple[Project, list[Event]], tmp_path: Path) -> None:
    opened, _ = project
    other = make_bundle(tmp_path, mixed_table(), seed=1)
    rival = blessing.Rival(1, tags(opened)["rayline.digest"])
    judged = blessing.judge(opened, other, mixed_table(), rival, {})
    [gate] = judged.gates
    assert (gate.what, gate.rows, judged.baseline) == ("rmse", 120, 1)
    assert gate.value is not None
    assert gate.champion is not None
    assert gate.value != gate.champion
    itself = blessing.judge(opened, make_bundle(tmp_path / "b", mixed_table()), mixed_table(), rival, {})
    assert (itself.blessed, itself.gates[0].value) == (True, itself.gates[0].champion)


def test_a_champion_of_another_task_gives_no_verdict(project: tuple[Project, list[Event]], tmp_path: Path) -> None:
    opened, _ = project
    rival = blessing.Rival(1, "x")
    judged = blessing.judge(opened, make_bundle(tmp_path / "c", real_table("binary")), real_table("binary"), rival, {})
    assert judged.gates[0].verdict == "inconclusive"
    assert "the champion answers a regression task" in judged.gates[0].reason
    told = [notice.text for notice in blessing.notices(judged)]
    assert any("the champion answers a regression task" in each for each in told)


@pytest.mark.parametrize(
    ("infrastructure", "words"),
    [
        ({"failure": "it ended with signal 9", "verdicts": []}, "serving of version 2 failed in a process of its own"),
        (
            {"failure": "", "verdicts": [{"quantity": "latency_ms", "value": 12.0, "limit": 5.0, "ok": False}]},
            "latency_ms of version 2 12 > 5",
        ),
        (
            {"failure": "", "verdicts": [{"quantity": "size_mb", "value": None, "limit": 5.0, "ok": False}]},
            "size_mb of version 2 could not be measured",
        ),
    ],
)
def test_what_serving_may_take_is_a_gate_too(
    project: tuple[Project, list[Event]], tmp_path: Path, infrastructure: dict[str, object], words: str
) -> None:
    opened, _ = project
    bundle = make_bundle(tmp_path / "d", mixed_table())
    judged = blessing.judge(opened, bundle, mixed_table(), None, {"infrastructure": infrastructure})
    assert not judged.blessed
    assert [each.told("version 2")[: len(words)] for each in judged.refusals] == [words]


def paused(project: Project, note: str = "") -> RolloutState:
    """A rollout from version 1 to version 2 that waits for a person, on disk."""
    versions = [LiveVersion(number, f"/bundles/{number}", "d") for number in (1, 2)]
    state = begin(
        id="r-1",
        kind="rollout",
        plan=Plan.from_config(RolloutConfig(steps=(Step(set_weight=10), Step(pause=True)))),
        service="model",
        stable=versions[0],
        canary=versions[1],
        now=1.0,
        experiment="e",
        tracking_uri=None,
        note=note,
    )
    state = entered(state, 1, 2.0)
    RolloutFiles(project.storage, "model").write(state)
    return state


def test_a_rollout_is_not_promoted_past_gates_that_say_no(
    project: tuple[Project, list[Event]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, _ = project
    blessing.record(opened.store, registered(opened, tmp_path, 1), NO)
    paused(opened)
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(commands, "promote", lambda name, **details: asked.append(details))
    with pytest.raises(GateRefused, match="version 2 of 'model' is not blessed"):
        release.promote(opened)
    assert asked == []
    release.promote(opened, full=True, force="the old labels were wrong")
    assert asked[0]["note"] == f"let past its gates by {getpass.getuser()}: the old labels were wrong"
    release.promote(opened)
    assert asked[1]["note"] == "", "it is in the history already"


def test_who_forced_a_rollout_stands_in_its_history(project: tuple[Project, list[Event]]) -> None:
    opened, _ = project
    state = paused(opened, note="let past its gates by ada: the labels were wrong")
    assert state.decisions[0].reason.endswith("loading it; let past its gates by ada: the labels were wrong")
    promoted = verbs.promote(state, 3.0, note="let past its gates by bob: it rained")
    assert promoted.decisions[-1].reason == "promoted past step 2 by a person; let past its gates by bob: it rained"
