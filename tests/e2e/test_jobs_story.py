"""A run as a job on a real head with a token: killed and resumed, refused, stopped, and sent by Ray's own command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from job_cluster import JobCluster, job_cluster
from rayline.processes import descendants

RAYLINE = (sys.executable, "-m", "rayline.cli.app")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEADLINE_S = 240.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobCluster]:
    with job_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, cluster: JobCluster) -> Path:
    """A project whose table git must not see, beside files that no cluster needs."""
    from sklearn.datasets import load_wine

    folder = tmp_path_factory.mktemp("project")
    load_wine(as_frame=True).frame.to_csv(folder / "wine.csv", index=False)
    (folder / "rayline.yaml").write_text(
        "name: wine\ndata: {source: wine.csv}\nfeatures: {target: target}\n"
        "train: {epochs: 20, batch_size: 16, learning_rate: 0.01}\n"
        f"service: {{port: {cluster.service_port}}}\n"
    )
    (folder / ".gitignore").write_text("*.csv\nnotes/\n")
    (folder / "requirements.txt").write_text("ray\nrayline\n")
    (folder / "notes").mkdir()
    (folder / "notes" / "large.bin").write_bytes(b"x" * 100_000)
    (folder / ".env").write_text("SECRET=1")
    return folder


def rayline(project: Path, cluster: JobCluster, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RAYLINE, *words, "--address", cluster.url],
        cwd=project,
        env={**cluster.environment, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def start(project: Path, cluster: JobCluster, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RAYLINE, *words, "--address", cluster.url],
        cwd=project,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=listening,
    )


def listening() -> None:
    """Hear Ctrl-C, which what is started in the background of a shell does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def jobs(project: Path, cluster: JobCluster) -> list[dict[str, object]]:
    done = rayline(project, cluster, "jobs", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def driver(cluster: JobCluster) -> int | None:
    """Return the process id of the driver that is at work on the cluster."""
    found = [pid for pid, command in descendants(cluster.pid).items() if "rayline.cli.job_driver" in command]
    return found[0] if found else None


def finished(project: Path, step: str) -> bool:
    return any((project / ".rayline" / "ledger" / "wine").glob(f"{step}-*.json"))


def kill_after(project: Path, cluster: JobCluster, step: str) -> None:
    """Kill the driver with SIGKILL once a step has ended."""
    until(lambda: finished(project, step) and driver(cluster) is not None, f"'{step}' to end")
    pid = driver(cluster)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_what_is_wrong_is_told_before_anything_is_sent(project: Path, cluster: JobCluster) -> None:
    wrong = rayline(project, cluster, "submit", "rayline.yaml", "--set", "train.epoch=3")
    assert wrong.returncode == 2
    assert "epochs" in wrong.stderr
    large = rayline(project, cluster, "submit", "rayline.yaml", "--limit-mb", "0.001")
    assert large.returncode == 2
    assert "wine.csv" in large.stderr
    alone = rayline(project, cluster, "submit", "rayline.yaml", "--no-wait", "--retries", "2")
    assert alone.returncode == 2
    assert jobs(project, cluster) == []


def test_a_wrong_address_or_token_has_a_message_of_its_own(project: Path, cluster: JobCluster, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    other = tmp_path / "token"
    other.write_text("0" * 64)
    other.chmod(0o644)
    cases = (
        ({"address": nobody}, "nothing listens"),
        ({"address": cluster.gcs}, "not a Ray dashboard"),
        ({"RAY_AUTH_TOKEN_PATH": str(other)}, "refuses the token"),
        ({"RAY_AUTH_TOKEN_PATH": "", "HOME": str(tmp_path)}, "asks for a token"),
        ({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}, "RAY_AUTH_TOKEN_PATH"),
    )
    for changed, said in cases:
        address = changed.pop("address", cluster.url)
        done = subprocess.run(
            [*RAYLINE, "submit", "rayline.yaml", "--address", address],
            cwd=project,
            env={**cluster.environment, **changed},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        assert done.returncode == (2 if said == "RAY_AUTH_TOKEN_PATH" else 3), done.stderr
        assert said in done.stderr
        if str(other) in str(changed):
            assert f"chmod 600 {other}" in done.stderr


def test_a_driver_of_one_s_own_joins_by_the_token_alone(cluster: JobCluster, tmp_path: Path) -> None:
    """Ray itself takes a token from a file only where RAY_AUTH_MODE says so, too."""
    other = tmp_path / "token"
    other.write_text("0" * 64)
    for token, code in ((cluster.token, 0), (other, 3)):
        variables = {**cluster.environment, "RAY_ADDRESS": cluster.gcs, "RAY_AUTH_TOKEN_PATH": str(token)}
        del variables["RAY_AUTH_MODE"]
        script = "import sys, rayline\ntry: rayline.connect(sys.argv[1])\nexcept rayline.RaylineError as error:\n"
        script += "  print(error); sys.exit(error.exit_code)"
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        assert done.returncode == code, done.stderr
        assert ("refuses the token" in done.stdout) == (code == 3)


def test_a_killed_driver_is_resumed_by_hand_and_by_itself(project: Path, cluster: JobCluster) -> None:
    first = start(project, cluster, "submit", "rayline.yaml")
    kill_after(project, cluster, "train")
    said, _ = first.communicate(timeout=DEADLINE_S)
    assert first.returncode == 3, said
    assert "killed by signal 9" in said
    assert "5 files" in said, "the table and the lock file go along, what is ignored does not"
    assert ".env" in said
    again = start(project, cluster, "submit", "rayline.yaml", "--retries", "1")
    kill_after(project, cluster, "evaluate")
    said, _ = again.communicate(timeout=DEADLINE_S)
    assert again.returncode == 0, said
    assert "sent again in" in said
    assert "steps were cached (features, train, evaluate" in said
    assert "saved" in said
    assert f"127.0.0.1:{cluster.service_port}/wine" in said
    last = jobs(project, cluster)[0]
    progress = last["progress"]
    assert isinstance(progress, dict)
    assert progress["stage"] == "done"
    assert progress["saved_s"] > 0
    print(f"saved {progress['saved_s']} s by {', '.join(progress['cached'])}")


def test_a_refusal_is_passed_on_and_not_tried_again(project: Path, cluster: JobCluster) -> None:
    before = len(jobs(project, cluster))
    gates = 'evaluate.gates=[{"metric": "log_loss", "at_most": 0.000001, "inconclusive": "stop"}]'
    refused = rayline(project, cluster, "submit", "rayline.yaml", "--retries", "3", "--set", gates)
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert len(jobs(project, cluster)) == before + 1


def test_a_job_that_nobody_follows_is_seen_and_stopped(project: Path, cluster: JobCluster) -> None:
    endless = ("--set", "train.epochs=100000", "--set", "train.patience=0")
    sent = rayline(project, cluster, "submit", "rayline.yaml", "--no-wait", "--json", *endless)
    assert sent.returncode == 0, sent.stderr
    name = json.loads(sent.stdout)["id"]

    def training() -> bool:
        shown = json.loads(rayline(project, cluster, "jobs", name, "--json").stdout)
        progress = shown["progress"]
        return progress is not None and progress["unit"] == "epoch" and progress["stage_eta_s"] > 0

    until(training, "the training to tell its epochs")
    with start(project, cluster, "jobs", "follow", name) as following:
        try:
            assert following.stdout is not None
            until(lambda: "wine" in following.stdout.readline(), "the follower to print")  # type: ignore[union-attr]
            following.send_signal(signal.SIGINT)
            said, _ = following.communicate(timeout=DEADLINE_S)
        finally:
            following.kill()
    assert following.returncode == 130, said
    assert "goes on" in said
    assert f"rayline jobs stop {name}" in said
    page = rayline(project, cluster, "jobs", name)
    assert "train" in page.stdout
    assert "left" in page.stdout
    stopped = rayline(project, cluster, "jobs", "stop", name)
    assert "is stopped" in stopped.stdout, stopped.stderr
    assert rayline(project, cluster, "jobs", "follow", name).returncode == 1
    assert "had ended" in rayline(project, cluster, "jobs", "stop", name).stdout


def test_ray_s_own_command_runs_an_example_as_it_stands(cluster: JobCluster, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", cluster.url),
            *("--working-dir", str(EXAMPLES), "--", "python", "07_full_loop.py", str(tmp_path / "state")),
            str(cluster.service_port),
        ],
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S * 2,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "version 3: Degraded" in done.stdout
    assert "0 failed" in done.stdout
