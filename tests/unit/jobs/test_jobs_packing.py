"""What goes along with a job: ignore files, what never travels, the limit, and the same bytes for the same content."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.errors import NotFoundError, UsageError
from rayline.jobs.packing import chosen, packed, refuse_too_large, refuse_whole_home


def write(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(root: Path, **options: tuple[str, ...]) -> list[str]:
    return [each.name for each in chosen(root, **options)[0]]


def test_environments_state_and_history_never_travel(tmp_path: Path) -> None:
    write(tmp_path, "run.py", "src/own.py", "data/table.csv", ".hidden")
    write(
        tmp_path, ".git/HEAD", ".rayline/cluster.token", ".venv/bin/python", ".venv-services/x", "src/__pycache__/a.pyc"
    )
    write(tmp_path, ".mypy_cache/x", "state/ledger/a.json")
    assert names(tmp_path, without=("state",)) == [".hidden", "data/table.csv", "run.py", "src/own.py"]


def test_ignore_files_of_any_folder_are_honoured_and_rayignore_has_the_last_word(tmp_path: Path) -> None:
    write(tmp_path, "a.log", "data/a.csv", "data/b.csv", "deep/keep.log", "deep/own.tmp", "build/x", "deep/build/y")
    (tmp_path / ".gitignore").write_text("*.log\ndata/*.csv\nbuild/\n")
    (tmp_path / ".rayignore").write_text("!data/a.csv\n")
    (tmp_path / "deep" / ".gitignore").write_text("*.tmp\n!keep.log\n")
    assert [each for each in names(tmp_path) if "ignore" not in each] == ["data/a.csv", "deep/keep.log"]


def test_what_the_configuration_names_travels_whatever_git_must_not_see(tmp_path: Path) -> None:
    write(tmp_path, "rayline.yaml", "data/a.csv", "data/b.csv")
    (tmp_path / ".gitignore").write_text("data/\n")
    assert names(tmp_path, keep=("data/a.csv",)) == [".gitignore", "data/a.csv", "rayline.yaml"]


def test_likely_secrets_stay_and_are_told_of(tmp_path: Path) -> None:
    write(tmp_path, ".env", "deploy/key.pem", "auth_token", "run.py", "sub/.env.local", "environment.py")
    files, secrets = chosen(tmp_path)
    assert [each.name for each in files] == ["environment.py", "run.py"]
    assert secrets == [".env", "auth_token", "deploy/key.pem", "sub/.env.local"]
    (tmp_path / ".rayignore").write_text("!.env\n")
    assert ".env" in names(tmp_path)


def test_links_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "shared/table.csv")
    project = tmp_path / "project"
    write(project, "run.py")
    (project / "data").symlink_to(tmp_path / "elsewhere" / "shared")
    (project / "again").symlink_to(project)
    assert names(project) == ["data/table.csv", "run.py"]


def test_the_refusal_names_the_largest_files(tmp_path: Path) -> None:
    for number, size in enumerate((10, 3_000_000, 20, 1_000_000, 30, 40, 50)):
        (tmp_path / f"file{number}").write_bytes(b"x" * size)
    files, _ = chosen(tmp_path)
    with pytest.raises(UsageError) as refusal:
        refuse_too_large(files, tmp_path, 1.5)
    said = str(refusal.value)
    assert said.index("3.0 MB  file1") < said.index("1.0 MB  file3")
    assert "file0" not in said
    assert ".rayignore" in said
    assert "--limit-mb" in said
    refuse_too_large(files, tmp_path, 4.1)


@settings(max_examples=20)
@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=8), st.binary(max_size=200), min_size=1, max_size=5))
def test_the_same_content_is_the_same_archive(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes]
) -> None:
    archives = []
    for order in (list(content), list(reversed(content))):
        folder = tmp_path_factory.mktemp("same")
        for place, name in enumerate(order):
            (folder / name).write_bytes(content[name])
            os.utime(folder / name, (place * 1e6, place * 1e6))
        archives.append(packed(*chosen(folder), {"own/start.sh": "exit 0\n"}))
    assert archives[0].name == archives[1].name
    with zipfile.ZipFile(io.BytesIO(archives[0].content)) as archive:
        assert {name: archive.read(name) for name in content} == content
        assert archive.read("own/start.sh") == b"exit 0\n"
    changed = tmp_path_factory.mktemp("changed")
    for name in content:
        (changed / name).write_bytes(content[name] + b"!")
    assert packed(*chosen(changed), {"own/start.sh": "exit 0\n"}).name != archives[0].name


def test_no_whole_home_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match="--working-dir"):
        refuse_whole_home(tmp_path)
    with pytest.raises(UsageError, match="whole home or disk"):
        refuse_whole_home(Path("/"))
    with pytest.raises(NotFoundError, match="does not exist"):
        refuse_whole_home(tmp_path / "none")
