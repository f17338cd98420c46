"""A path in a scratch folder tells which object it stands for, whoever made it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline import storage
from rayline.errors import ConfigError
from rayline.storage.places import Place, own, place_of, place_of_uri, relative, scratch

SCHEMES = ("s3", "gs", "az")
NAME = st.from_regex(r"[a-z0-9][a-z0-9._=-]{0,20}", fullmatch=True).filter(lambda name: ".." not in name)


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYLINE_SCRATCH", str(tmp_path / "scratch"))


@given(scheme=st.sampled_from(SCHEMES), bucket=NAME, keys=st.lists(NAME, max_size=4), below=st.lists(NAME, max_size=3))
def test_a_uri_and_what_lies_below_it_are_told_by_their_paths(
    scheme: str, bucket: str, keys: list[str], below: list[str]
) -> None:
    uri = "/".join([f"{scheme}://{bucket}", *keys])
    for written in (uri, f"{uri}/"):
        path = storage.folder_of(written).joinpath(*below)
        assert place_of(path) == Place(scheme, bucket, "/".join([*keys, *below]))
        assert storage.uri_of(path) == "/".join([uri, *below])
        assert storage.folder_of(path) == path


def test_a_path_of_another_scratch_folder_is_the_same_object_in_our_own(tmp_path: Path) -> None:
    theirs = Path("/home/ada/scratch/rayline@s3/team/churn/served/churn-1")
    ours = tmp_path / "scratch" / "rayline@s3" / "team" / "churn" / "served" / "churn-1"
    assert own(theirs) == storage.folder_of(theirs) == ours
    assert relative(theirs, storage.folder_of("s3://team/churn")) == "served/churn-1"
    assert relative(theirs, storage.folder_of("s3://team/other")) is None
    assert relative(theirs, storage.folder_of("s3://team/chu")) is None


def test_plain_folders_stay_as_they_are(tmp_path: Path) -> None:
    for text in (".rayline", "/shared/state", "state@home", "s3", "rayline@s3"):
        assert storage.folder_of(text) == Path(text)
        assert not storage.is_object_store(text)
    assert storage.folder_of(f"file://{tmp_path}") == tmp_path
    assert storage.uri_of(tmp_path) == str(tmp_path)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s4://bucket/x", r"of the kind 's4'. .*s3.* Or give a folder"),
        ("hdfs://x/y", "Known: az, gs, s3"),
        ("s3://", "must read s3://BUCKET"),
        ("s3:///x", "must read s3://BUCKET"),
        ("gs://bucket/../other", "must read gs://BUCKET"),
        ("s3://user:secret@bucket/x", "must read s3://BUCKET"),
        ("s3://bucket/x?versionId=1", "must read s3://BUCKET"),
    ],
)
def test_what_names_no_bucket_is_refused_with_what_would_do(uri: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        place_of_uri(uri)


def test_the_scratch_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAYLINE_SCRATCH")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folder = scratch()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.name == f"rayline-{os.getuid()}"
    other = os.getuid() + 1
    folder.rename(folder.with_name(f"rayline-{other}"))
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(ConfigError, match=r"belongs to another user\. Set RAYLINE_SCRATCH"):
        scratch()


def test_in_a_plain_folder_nothing_is_loaded_to_keep_or_to_fetch(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("x")
    storage.keep(file)
    storage.keep_soon(file)
    storage.settle()
    assert storage.fetch(file) == storage.refresh(file) == file
    assert storage.exists(file)
    storage.forget(file)
    assert file.exists(), "what is removed from a folder is removed by whoever works in it"
