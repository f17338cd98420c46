"""Whether the other machines of a cluster see a folder of this one: found out by asking one process on each."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from rayline.capacity.values import Capacity, Node

ASK_SECONDS = 30.0
MOST_ASKED = 3
"""Machines that are asked: a folder that some see and others do not is seldom, and each answer starts a process."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Which machines were asked, and which of them see the folder.

    Attributes:
        blind: the addresses of nodes that do not.
        silent: of those that did not answer in time.
    """

    asked: int = 0
    blind: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def seen_elsewhere(folder: Path, capacity: Capacity, seconds: float = ASK_SECONDS) -> Seen:
    """Write a small file, have it read on other machines of the connected cluster, and remove it.

    Raises:
        OSError: the folder cannot be written.
    """
    others = _others(capacity)[:MOST_ASKED]
    if not others:
        return Seen()
    folder.mkdir(parents=True, exist_ok=True)
    probe, word = folder / f".seen-{secrets.token_hex(4)}", secrets.token_hex(8)
    probe.write_text(word, encoding="utf-8")
    try:
        return _asked(probe.resolve(), word, others, seconds)
    finally:
        probe.unlink(missing_ok=True)


def reads(file: str, word: str) -> bool:
    """Tell whether a file is here and holds a word. Runs on the other machine."""
    try:
        return Path(file).read_text(encoding="utf-8") == word
    except (OSError, UnicodeDecodeError):
        return False


def _others(capacity: Capacity) -> list[Node]:
    """Return one node of each machine but this one; nodes that share a machine share its folders."""
    found: dict[str, Node] = {}
    for node in capacity.nodes:
        if node.id and node.host != socket.gethostname():
            found.setdefault(node.host, node)
    return list(found.values())


def _asked(probe: Path, word: str, nodes: list[Node], seconds: float) -> Seen:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asking = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        options = ray.remote(reads).options(num_cpus=0, scheduling_strategy=there, max_retries=0)
        asking[options.remote(str(probe), word)] = node
    done, late = ray.wait(list(asking), num_returns=len(asking), timeout=seconds)
    blind, silent = [], [asking[each].name for each in late]
    for each in done:
        try:
            if not ray.get(each):
                blind.append(asking[each].name)
        except ray.exceptions.RayError:  # a node that has just gone says nothing about the folder
            silent.append(asking[each].name)
    return Seen(len(asking), tuple(blind), tuple(silent))
