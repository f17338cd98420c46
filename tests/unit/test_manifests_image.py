"""The image of ``cluster/``: what it copies exists, what it installs is pinned, what it sets is what Rayline needs."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

from cluster_files import CHANGE_ME, CLUSTER, all_files, text
from rayline.cluster import WORKER_NICENESS, lasting_settings
from rayline.serving.http.ingress import ingress_environment

ROOT = CLUSTER.parent


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, each on one line and without comments."""
    lines = [line for line in text("Dockerfile").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def given(kind: str) -> list[str]:
    return [rest for name, rest in instructions() if name == kind]


def ignored(path: str) -> bool:
    """Tell whether ``.dockerignore`` keeps a path from the build; the last line that fits decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        bare = pattern.removeprefix("!")
        anywhere = bare.startswith("**/")
        places = Path(path).parts if anywhere else ["/".join(Path(path).parts[:n]) for n in range(1, 9)]
        if any(fnmatch.fnmatchcase(place, bare.removeprefix("**/")) for place in places):
            kept = pattern.startswith("!")
    return not kept


def copied() -> list[str]:
    words = [rest.split() for rest in given("COPY") if "--from=" not in rest]
    return [source for each in words for source in [word for word in each if not word.startswith("--")][:-1]]


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_exists_and_is_sent_to_the_build(source: str) -> None:
    assert (ROOT / source).exists()
    assert not ignored(source)


def test_nothing_else_is_sent_to_the_build() -> None:
    for path in (".venv", ".rayline", ".git", "tests", "cluster/aws.yaml", "src/rayline/__pycache__/x.pyc"):
        assert ignored(path), path


def test_every_stage_begins_at_a_pinned_image() -> None:
    [base] = [rest.partition("=")[2] for rest in given("ARG") if rest.startswith("PYTHON_IMAGE=")]
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base)
    assert [rest.split()[0] for rest in given("FROM")] == ["${PYTHON_IMAGE}"] * 2


def test_every_python_package_is_pinned() -> None:
    installs = [rest for rest in given("RUN") if "pip install" in rest]
    assert len(installs) == 3
    assert all("--constraint constraints.txt" in each for each in installs)
    assert any("torch==${TORCH_VERSION}" in each for each in installs)
    asked = [line.split("#")[0].strip() for line in text("requirements.txt").splitlines()]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in asked if line)
    [torch] = [rest for rest in given("ARG") if rest.startswith("TORCH_VERSION=")]
    assert f"torch=={torch.partition('=')[2]}" in (ROOT / "Makefile").read_text()


def test_it_does_not_run_as_root_and_names_no_secret() -> None:
    assert given("USER") == ["ray"]
    assert not re.search(r"(?i)password=|secret=|auth_token=", text("Dockerfile"))


def test_it_sets_what_serve_must_start_with() -> None:
    environment = dict(re.findall(r'(RAY_SERVE_\w+)=("[^"]*"|\S+)', " ".join(given("ENV"))))
    wanted = ingress_environment("0.0.0.0", 8000, "x", "haproxy")
    own = {name for name in wanted if re.search(r"PORT$|_LOC$|_PATH$|_STATE_", name)}  # of one of several clusters
    wanted = {name: value for name, value in wanted.items() if name not in own or "CALLBACK" in name}
    assert {name: value.strip('"') for name, value in environment.items()} == wanted


def test_workers_are_as_nice_and_as_patient_as_those_of_a_local_cluster() -> None:
    patience = "RAY_gcs_rpc_server_reconnect_timeout_s"
    for name, value in {**WORKER_NICENESS, patience: lasting_settings(Path())[patience]}.items():
        assert f"export {name}={value} " in text("local.sh")
    assert [f"{name}={value}" for name, value in WORKER_NICENESS.items()] == [
        each for each in given("ENV") if "niceness" in each
    ]


MARKED = [
    (path, number, line)
    for path in all_files()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    if CHANGE_ME in line and not line.lstrip().startswith("#") and path.name != "README.md"
]


@pytest.mark.parametrize(("path", "number", "line"), MARKED, ids=[f"{path.name}:{n}" for path, n, _ in MARKED])
def test_what_a_user_must_set_says_what_it_is(path: Path, number: int, line: str) -> None:
    before = path.read_text(encoding="utf-8").splitlines()[number - 2]
    assert "#" in line or before.lstrip().startswith("#"), f"{path.name}:{number} has no comment"
