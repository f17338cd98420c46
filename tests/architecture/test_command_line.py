"""Verbs and options are a promise: changing one means changing the list here, on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import cyclopts
import pytest

from rayline.cli.app import app

FROZEN = {
    "init": ["DATA", "--target", "--name", "--out", "--force", "--port"],
    "doctor": ["CONFIG", "--address", "--manifests", "--json"],
    "plan": ["CONFIG", "--address", "--set", "--json"],
    "run": ["CONFIG", "--fresh", "--set", "--json"],
    "validate": ["CONFIG", "DATA", "--environment", "--update", "--yes", "--set", "--json"],
    "train": ["CONFIG", "--fresh", "--set", "--json"],
    "tune": ["CONFIG", "--fresh", "--set", "--json"],
    "evaluate": ["CONFIG", "--fresh", "--set", "--json"],
    "register": ["CONFIG", "--fresh", "--set", "--json"],
    "features materialize": ["CONFIG", "--fresh", "--set", "--json"],
    "deploy": ["SERVICE", "--force", "--config"],
    "rollout start": ["NAME", "--version", "--plan", "--wait", "--force", "--config"],
    "rollout status": ["NAME", "--watch", "--wait", "--config", "--json"],
    "rollout promote": ["NAME", "--full", "--force", "--config"],
    "rollout pause": ["NAME", "--config"],
    "rollout resume": ["NAME", "--config"],
    "rollout abort": ["NAME", "--reason", "--config"],
    "rollout retry": ["NAME", "--config"],
    "rollout undo": ["NAME", "--to", "--config"],
    "rollout history": ["NAME", "--config", "--json"],
    "predict": ["NAME", "FILE", "--version", "--out", "--config", "--json"],
    "status": ["NAME", "--config", "--json"],
    "lineage": ["VERSION", "--config", "--json"],
    "card": ["VERSION", "--out", "--config"],
    "submit": [
        "CONFIG",
        "--address",
        "--working-dir",
        "--storage",
        "--env",
        "--env-var",
        "--limit-mb",
        "--num-cpus",
        "--num-gpus",
        "--memory",
        "--label",
        "--retries",
        "--no-wait",
        "--fresh",
        "--set",
        "--json",
    ],
    "jobs follow": ["JOB", "--address"],
    "jobs stop": ["JOB", "--address"],
    "ui": ["--config", "--port"],
    "stop": ["--storage", "--config"],
    "demo": ["--keep", "--port", "--out"],
}


def verbs(of: cyclopts.App, prefix: str = "") -> Iterator[tuple[str, cyclopts.App]]:
    for name in of:
        if name.startswith("-"):
            continue
        verb = of[name]
        inner = list(verbs(verb, f"{prefix}{name} "))
        yield from inner or [(f"{prefix}{name}", verb)]


def options(verb: cyclopts.App) -> list[str]:
    arguments = verb.assemble_argument_collection()
    return [argument.name for argument in arguments]


def test_the_verbs_are_those_promised_in_the_order_of_the_flow() -> None:
    assert [name for name, _ in verbs(app)] == list(FROZEN)


@pytest.mark.parametrize(("name", "verb"), list(verbs(app)), ids=lambda each: each if isinstance(each, str) else "")
def test_the_options_of_each_verb_are_frozen(name: str, verb: cyclopts.App) -> None:
    assert options(verb) == FROZEN[name]


@pytest.mark.parametrize(("name", "verb"), list(verbs(app)), ids=lambda each: each if isinstance(each, str) else "")
def test_each_verb_says_what_it_does(name: str, verb: cyclopts.App) -> None:
    assert verb.help.strip().endswith(".")
