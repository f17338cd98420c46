"""What is sent: where state goes, what travels, and what is refused before a cluster is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rayline.errors import ConfigError, UsageError
from rayline.jobs.submission import HEAD, Draft, Wishes, prepare


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "configs").mkdir(parents=True)
    (folder / "table.csv").write_text("size,label\n1,a\n")
    (folder / ".gitignore").write_text("*.csv\n")
    values = {"name": "table", "data": {"source": "../table.csv"}, "features": {"target": "label"}}
    (folder / "configs" / "table.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(folder)
    return folder


def draft(*overrides: str, **wishes: object) -> Draft:
    return prepare(Wishes(Path("configs/table.yaml"), overrides, **wishes))  # type: ignore[arg-type]


def test_on_this_machine_state_stays_where_a_run_keeps_it(project: Path) -> None:
    sent = draft("train.epochs=3").addressed(same_machine=True)
    assert sent.command[:2] == ("run", "configs/table.yaml")
    assert f"storage={project / 'configs' / '.rayline'}" in sent.command
    assert "train.epochs=3" in sent.command


def test_elsewhere_state_on_this_machine_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"storage .* lies on this machine.*--storage"):
        draft().addressed(same_machine=False)
    sent = draft(storage="s3://bucket/table").addressed(same_machine=False)
    assert "storage=s3://bucket/table" in sent.command
    shared = draft(f"storage={tmp_path / 'shared'}").addressed(same_machine=False)
    assert any("must be a folder that all nodes of the cluster share" in note for note in shared.notes)


def test_data_outside_does_not_travel_and_is_told(project: Path, tmp_path: Path) -> None:
    (tmp_path / "large.csv").write_text("size,label\n1,a\n")
    override = f"data.source={tmp_path / 'large.csv'}"
    assert override in draft(override).addressed(same_machine=True).command
    sent = draft(override, storage="s3://bucket/table").addressed(same_machine=False)
    assert any("does not go along" in note for note in sent.notes)


def test_the_named_table_travels_though_git_must_not_see_it(project: Path) -> None:
    (project / "other.csv").write_text("x" * 5_000)
    assert draft().package.files == 4, "configuration, table, ignore file and the start script"
    assert draft().package.size < 5_000
    assert draft().package.name == draft().package.name


def test_a_configuration_outside_of_the_working_directory(project: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="--working-dir"):
        draft(working_dir=tmp_path / "empty")


def test_wrong_settings_are_refused_here(project: Path) -> None:
    with pytest.raises(ConfigError, match="epochs"):
        draft("train.epoch=3")


def test_the_lock_file_is_found_and_the_image_may_be_left_as_it_is(project: Path) -> None:
    (project / "requirements.txt").write_text("ray\n")
    found = draft()
    assert found.lock == "requirements.txt"
    sent = found.addressed(same_machine=True)
    assert " requirements.txt install " in sent.entrypoint(installed=False)
    assert " path requirements.txt tell " in sent.entrypoint(installed=True)
    assert draft(env="image").lock == "-"
    assert " tell " in draft(wait=False).addressed(same_machine=True).entrypoint(installed=False)
    asked = sent.request({"A": "1"}, ["b==2"])
    assert asked["runtime_env"]["env_vars"] == {"A": "1"}
    assert asked["runtime_env"]["pip"]["packages"] == ["b==2"]
    assert "pip" not in sent.request({})["runtime_env"]


def test_what_the_driver_takes_is_asked_for_and_keeps_it_where_its_service_is(project: Path) -> None:
    plain = draft().addressed(same_machine=True).request({})
    assert not any(key.startswith("entrypoint_") for key in plain)
    asked = draft(num_cpus=2.0, memory=10**9).addressed(same_machine=True).request({})
    assert (asked["entrypoint_num_cpus"], asked["entrypoint_memory"]) == (2.0, 10**9)
    assert asked["entrypoint_resources"] == HEAD
    chosen = draft(labels=(("zone", "a"),)).addressed(same_machine=True).request({})
    assert chosen["entrypoint_label_selector"] == {"zone": "a"}
    assert "entrypoint_resources" not in chosen


def test_what_lies_beside_the_configuration_does_not_travel_for_that(project: Path) -> None:
    """The configuration names its data, and that goes along; the folder that it lies in is not named by it."""
    (project / "configs" / "table.yaml").rename(project / "table.yaml")
    (project / "table.yaml").write_text((project / "table.yaml").read_text().replace("../", ""))
    (project / ".env").write_text("SECRET=1")
    (project / "other.csv").write_text("x\n1\n")
    package = prepare(Wishes(Path("table.yaml"), ())).package
    assert package.secrets == (".env",)
    assert package.files == len([".gitignore", "table.yaml", "table.csv", "start.sh"])
