"""What a job's end means, when it is sent again, and which variables and requirements go along."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayline.auth_token import find_token
from rayline.errors import NotFoundError, UsageError
from rayline.jobs.address import job_server
from rayline.jobs.environment import forwarded
from rayline.jobs.job import Job
from rayline.jobs.lock import LACKS, find_lock, heard, lacking, read_lock, told
from rayline.jobs.running import LONGEST_PAUSE_S, Attempts, next_move, pause


def job(status: str, code: int | None = None, error: str | None = None) -> Job:
    return Job.read({"submission_id": "j", "status": status, "driver_exit_code": code, "error_type": error})


ENDS = [
    (job("SUCCEEDED", 0), "done", 0),
    (job("FAILED", 1, "JOB_ENTRYPOINT_COMMAND_ERROR"), "refused", 1),
    (job("FAILED", 2, "JOB_ENTRYPOINT_COMMAND_ERROR"), "wrong", 2),
    (job("FAILED", 3, "JOB_ENTRYPOINT_COMMAND_ERROR"), "environment", 3),
    (job("FAILED", 127, "JOB_ENTRYPOINT_COMMAND_ERROR"), "environment", 3),
    (job("FAILED", -9, "JOB_ENTRYPOINT_COMMAND_ERROR"), "died", 3),
    (job("FAILED", 137, "JOB_ENTRYPOINT_COMMAND_ERROR"), "died", 3),
    (job("FAILED", None, "RUNTIME_ENV_SETUP_FAILURE"), "environment", 3),
    (job("FAILED", None, "JOB_SUPERVISOR_ACTOR_DIED"), "died", 3),
    (job("FAILED", None, "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"), "environment", 3),
    (job("STOPPED"), "stopped", 1),
]


@pytest.mark.parametrize(("ended", "end", "code"), ENDS)
def test_an_end_has_a_meaning_and_an_exit_code(ended: Job, end: str, code: int) -> None:
    assert ended.ended
    assert (ended.end, ended.exit_code) == (end, code)
    assert ended.why


@pytest.mark.parametrize(("ended", "end", "code"), ENDS)
def test_only_deaths_and_broken_environments_are_sent_again(ended: Job, end: str, code: int) -> None:
    again = "again" if end in ("died", "environment") else "end"
    assert next_move(ended, Attempts(retries=2)) == again
    assert next_move(ended, Attempts(retries=2, used=1)) == again
    assert next_move(ended, Attempts(retries=2, used=2)) == "end"
    assert next_move(ended, Attempts()) == "end"


def test_a_signal_is_named() -> None:
    assert "signal 9" in job("FAILED", -9).why
    assert "signal 9" in job("FAILED", 137).why


def test_what_the_image_lacks_is_installed_once() -> None:
    lacks = job("FAILED", LACKS)
    assert next_move(lacks, Attempts()) == "install"
    assert next_move(lacks, Attempts(retries=3, installed=("a==1",))) == "end"


@given(st.integers(0, 200))
def test_pauses_grow_to_a_limit(used: int) -> None:
    assert 0 < pause(used) <= pause(used + 1) <= LONGEST_PAUSE_S


def test_harmless_variables_go_along_and_others_are_asked_for() -> None:
    here = {
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "MLFLOW_REGISTRY_URI": "http://me:secret@mlflow:5000",
        "OWN": "1",
    }
    elsewhere = forwarded((), here, same_machine=False)
    assert elsewhere.variables == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert any("AWS_ENDPOINT_URL stays here" in note for note in elsewhere.notes)
    assert any("MLFLOW_REGISTRY_URI stays here" in note for note in elsewhere.notes)
    assert "secret" not in " ".join(elsewhere.notes)
    assert "AWS_ENDPOINT_URL" in forwarded((), here, same_machine=True).variables
    asked = forwarded(("AWS_SECRET_ACCESS_KEY", "OWN=2", "AWS_ENDPOINT_URL"), here, same_machine=False)
    assert asked.variables["AWS_SECRET_ACCESS_KEY"] == "hidden"
    assert asked.variables["OWN"] == "2"
    assert asked.variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    assert any("AWS_SECRET_ACCESS_KEY goes along" in note for note in asked.notes)
    with pytest.raises(UsageError, match="NOT_SET"):
        forwarded(("NOT_SET",), here, same_machine=False)


def test_addresses_are_read_as_people_write_them() -> None:
    assert job_server("10.0.0.1:8265", {}) == "http://10.0.0.1:8265"
    assert job_server("https://ray.example/", {}) == "https://ray.example"
    assert job_server(None, {"RAY_ADDRESS": "http://a:1", "RAY_API_SERVER_ADDRESS": "http://b:2"}) == "http://b:2"
    assert job_server(None, {"RAY_ADDRESS": "http://a:1"}) == "http://a:1"
    assert job_server(None, {"RAY_ADDRESS": "a:6379"}) == "http://127.0.0.1:8265"
    with pytest.raises(UsageError, match="Ray Client"):
        job_server("ray://10.0.0.1:10001", {})
    with pytest.raises(UsageError, match="no address"):
        job_server("anyscale://x", {})


def test_a_token_is_found_where_ray_looks(tmp_path: Path) -> None:
    assert find_token({}, tmp_path).value == ""
    (tmp_path / ".ray").mkdir()
    own = tmp_path / ".ray" / "auth_token"
    own.write_text("home\n")
    own.chmod(0o644)
    found = find_token({}, tmp_path)
    assert found.value == "home"
    assert "0644" in found.warning
    assert f"chmod 600 {own}" in found.warning
    own.chmod(0o600)
    assert find_token({}, tmp_path).warning == ""
    assert "home" not in repr(find_token({}, tmp_path)).replace(str(tmp_path), "")
    (tmp_path / "named").write_text("named")
    named = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "named")}
    assert find_token(named, tmp_path).value == "named"
    assert find_token({**named, "RAY_AUTH_TOKEN": "direct"}, tmp_path).value == "direct"
    with pytest.raises(NotFoundError, match="RAY_AUTH_TOKEN_PATH"):
        find_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}, tmp_path)


def test_a_lock_file_is_compared_with_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("deep==1.0\n")
    (tmp_path / "requirements.txt").write_text(
        "# pins\nhere==2.13.0\nolder>=2  # a note\n--index-url https://example.org\nnone==1 --hash=sha256:0\n"
        'elsewhere==1; sys_platform == "plan9"\n-r more.txt\n'
    )
    installed = {"here": "2.13.0+cpu", "older": "1.9", "deep": "1.0"}
    lock = read_lock(tmp_path / "requirements.txt")
    assert lacking(lock, installed.get) == ["older>=2", "none==1"]
    (tmp_path / "constraints.txt").write_text("here==2.13.0\nolder==2\nnone==1\n")
    assert lacking(read_lock(tmp_path / "constraints.txt"), installed.get) == ["older==2"]
    (tmp_path / "uv.lock").write_text(
        '[[package]]\nname = "older"\nversion = "2.1"\nsource = { registry = "https://example.org" }\n'
        '[[package]]\nname = "project"\nversion = "0"\nsource = { virtual = "." }\n'
    )
    assert lacking(read_lock(tmp_path / "uv.lock"), installed.get) == ["older==2.1"]
    assert find_lock(tmp_path / "empty", tmp_path) == tmp_path / "uv.lock"
    assert heard(f"a line\n{told(['a==1', 'b>2'])}\nanother") == ["a==1", "b>2"]
    (tmp_path / "requirements.txt").write_text("not a requirement\n")
    with pytest.raises(UsageError, match="line 1"):
        read_lock(tmp_path / "requirements.txt")
