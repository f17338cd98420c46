"""Does the cluster answer, take the token, and run the same versions?"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rayline.doctor.ports import reaches
from rayline.doctor.seam import Finding, Subject
from rayline.doctor.tokens import USUAL_TOKEN
from rayline.preflight.words import amounts

CONNECT_SECONDS = 4.0
ASK_SECONDS = 25.0
SLOW_SECONDS = 1.0


class ClusterCheck:
    """Asks the cluster's control store, from a process of its own: Ray's client waits long and talks much."""

    name = "cluster"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        if subject.address is None:
            return [Finding("skipped", "none was named (--address, RAY_ADDRESS), and no local one runs")]
        way_out = "Check the address, and that the head runs and may be reached from here."
        host, _, port = subject.address.rpartition(":")
        if port.isdecimal() and (why := reaches(host.strip("[]"), int(port), CONNECT_SECONDS)):
            return [Finding("failed", f"{subject.address} cannot be reached: {why}", way_out)]
        told = _asked(subject)
        if "error" in told:
            return [_refused(subject.address, str(told["error"]))]
        return [_versions(subject.address, told), *_storage(subject, told)]


def _authentication(token_file: Path | None) -> dict[str, str]:
    """Return the variables with which a process speaks to a cluster, as far as the shell has not set them."""
    if token_file is not None:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}
    if "RAY_AUTH_MODE" in os.environ:
        return {}
    known = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ or USUAL_TOKEN.exists()
    return {"RAY_AUTH_MODE": "token" if known else "disabled"}


def _asked(subject: Subject) -> dict[str, Any]:
    assert subject.address is not None
    try:
        done = subprocess.run(
            [sys.executable, "-m", "rayline.doctor.asking", subject.address],
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=False,
            env={**os.environ, **_authentication(subject.token_file)},
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it did not answer within {ASK_SECONDS:g} s"}
    try:
        told: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        return {"error": (done.stderr.strip().rpartition("\n")[2] or f"the process ended with {done.returncode}")}
    return told


def _refused(address: str, why: str) -> Finding:
    why = why.partition(". ")[0].rstrip(".")
    if "auth" in why.lower() or "token" in why.lower():
        way_out = "Get the cluster's token into a file of mode 0600, and name it in RAY_AUTH_TOKEN_PATH."
        return Finding("failed", f"{address} does not take the token: {why}", way_out)
    return Finding("failed", f"{address} answers, but not as a Ray cluster: {why}", "Check the address.")


def _versions(address: str, told: Mapping[str, Any]) -> Finding:
    ray, python = metadata.version("ray"), platform.python_version()
    nodes, there = told["nodes"], (told["ray"], told["python"])
    totals = {name: sum(node["total"].get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}
    size = f"{len(nodes)} node{'s' * (len(nodes) != 1)}, {amounts(totals)}"
    seen = f"{address} answers: {size}, Ray {there[0]}, Python {there[1]}"
    if there[0] != ray or there[1].split(".")[:2] != python.split(".")[:2]:
        way_out = "Install the cluster's versions here, or this image there (cluster/Dockerfile)."
        return Finding("failed", f"{seen}; here are Ray {ray} and Python {python}", way_out)
    if told["seconds"] > SLOW_SECONDS:
        return Finding("notice", f"{seen}; it took {told['seconds']:.1f} s", "Look at the load of the head node.")
    return Finding("ok", seen)


def _storage(subject: Subject, told: Mapping[str, Any]) -> Sequence[Finding]:
    """Tell of a local folder as storage where nodes are on several machines."""
    machines = {node["address"] for node in told["nodes"]}
    if subject.config is None or "://" in subject.config.storage or len(machines) < 2:
        return []
    seen = f"storage is the folder '{subject.config.storage}', and the nodes are on {len(machines)} addresses"
    return [Finding("notice", seen, "Every node must see it: `rayline run` asks them before it starts anything.")]
