"""What stands in the way of a job server, or of a cluster to join, is told by its cause."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from rayline import joining
from rayline.auth_token import NONE, Token
from rayline.errors import ClusterError, NotFoundError
from rayline.jobs.server import JobServer, Unreachable

START = Path(__file__).resolve().parents[3] / "src" / "rayline" / "jobs" / "start.sh"
TOKEN = Token("right", "RAY_AUTH_TOKEN")


@contextmanager
def answering(version: str = "2.60.0", token: str = "") -> Iterator[str]:
    """Answer as a job server of some Ray version does that asks for a token, where one is given."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            if token and given != f"Bearer {token}":
                self._say(403 if given else 401, "no")
            elif self.path == "/api/version":
                self._say(200, {"ray_version": version})
            elif self.path == "/api/jobs/":
                self._say(200, [{"type": "SUBMISSION", "submission_id": "raysubmit_abc", "status": "RUNNING"}])
            elif self.path.startswith("/nodes"):
                self._say(200, {"data": {"summary": [{"hostname": "head", "raylet": {"isHeadNode": True}}]}})
            else:
                self._say(404, "not found")

        def _say(self, code: int, value: Any) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def free_port() -> int:
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port: int = candidate.getsockname()[1]
        return port


@contextmanager
def mute() -> Iterator[str]:
    """Take connections and say nothing that anybody understands."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1024)
                    connection.sendall(b"\x00\x00what?\n")

        threading.Thread(target=work, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def test_a_good_server_passes() -> None:
    with answering(token="right") as url:
        server = JobServer(url, TOKEN)
        assert server.check() == "2.60.0"
        assert server.on_this_machine("head")
        assert not server.on_this_machine("another")
        assert not server.holds("_ray_pkg_0.zip")
        with pytest.raises(NotFoundError, match="Did you mean 'raysubmit_abc'"):
            server.job("raysubmit_abd")


def test_another_ray_version_is_refused() -> None:
    with answering(version="2.55.1") as url, pytest.raises(ClusterError, match=r"runs Ray 2\.55\.1.*ray==2\.60\.\*"):
        JobServer(url).check()


def test_a_missing_and_a_wrong_token_are_told_apart() -> None:
    with answering(token="right") as url:
        with pytest.raises(ClusterError, match="asks for a token, and none was found"):
            JobServer(url, NONE).check()
        with pytest.raises(ClusterError, match="refuses the token from 'a file'") as refusal:
            JobServer(url, Token("wrong", "'a file'")).check()
        assert "wrong" not in str(refusal.value).replace("'a file'", "")


def test_what_is_no_job_server_is_told() -> None:
    with pytest.raises(Unreachable, match="nothing listens"):
        JobServer(f"http://127.0.0.1:{free_port()}").check()
    with mute() as address, pytest.raises(ClusterError, match="not a Ray dashboard"):
        JobServer(f"http://{address}").check()
    with answering() as url, pytest.raises(ClusterError, match="answers 404 to /elsewhere/api/version"):
        JobServer(f"{url}/elsewhere").check()


def test_a_cluster_that_cannot_be_joined_is_told_by_cause() -> None:
    none = (NONE.value, NONE.source)
    assert "nothing listens" in joining.refusal(f"127.0.0.1:{free_port()}", *none, patience=0)
    with answering() as url:
        assert "rayline submit" in joining.refusal(url.removeprefix("http://"), *none, patience=0)
    with mute() as address:
        assert "no Ray cluster" in joining.refusal(address, *none, patience=0)
    assert joining.refusal("auto", *none, patience=0) == ""


def test_other_versions_of_ray_and_python_are_named() -> None:
    error = RuntimeError(
        "Version mismatch: The cluster was started with:\n    Ray: 2.55.0\n    Python: 3.12.1\n"
        "This process on 10.0.0.2 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
    )
    said = joining.why_not("10.0.0.1:6379", error)
    assert "runs Ray 2.55.0 on Python 3.12.1, this process Ray 2.60.0 on Python 3.11.7" in said
    assert "rayline submit" in said
    assert "cannot be joined: odd" in joining.why_not("10.0.0.1:6379", RuntimeError("odd.\ntrace"))


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
def test_a_driver_starts_with_a_python_that_has_what_it_needs(tmp_path: Path) -> None:
    """Of two on the path, the first lacks Rayline."""
    for name, can in (("python", 1), ("python3", 0)):
        file = tmp_path / name
        file.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit {can}\necho {name} "$@"\n')
        file.chmod(0o755)
    # Below a shell, for what this process has loaded of Ray would be found as well.
    command = ["/bin/sh", "-c", '/bin/sh "$0" "$@"; exit $?', str(START)]
    command += ["path", "-", "tell", "3.11", "--", "run", "my file.yaml", "--set", "a=--"]
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "python3 -m rayline.cli.job_driver - tell 3.11 -- run my file.yaml --set a=--"
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "no Python on this node has both ray and rayline" in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_the_python_beside_ray_itself_is_found_without_any_path(tmp_path: Path) -> None:
    import ray._raylet  # noqa: F401 - the library that the script looks for in its parent

    done = subprocess.run(
        ["/bin/sh", str(START), "image", "-", "tell", "0.0", "--", "--version"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(START.parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "was sent from Python 0.0" in done.stdout
