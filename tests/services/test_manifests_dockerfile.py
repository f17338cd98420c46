"""The Dockerfile through Docker's own parser (BuildKit's, as a Python package)."""

from __future__ import annotations

import pytest

from cluster_files import CLUSTER

dockerfile = pytest.importorskip("dockerfile", reason="`make test-services` has Docker's parser")
KNOWN = {"ARG", "CMD", "COPY", "ENV", "EXPOSE", "FROM", "RUN", "USER", "WORKDIR"}


def test_dockers_parser_takes_it() -> None:
    found = dockerfile.parse_file(str(CLUSTER / "Dockerfile"))
    assert {each.cmd.upper() for each in found} <= KNOWN
    stages = [each.value for each in found if each.cmd.upper() == "FROM"]
    assert stages == [("${PYTHON_IMAGE}", "AS", "build"), ("${PYTHON_IMAGE}",)]
    brought = [each for each in found if any(flag.startswith("--from=") for flag in each.flags)]
    assert [each.flags for each in brought] == [("--from=build",)]


def test_a_broken_one_is_refused() -> None:
    with pytest.raises(dockerfile.GoParseError):
        dockerfile.parse_string("FROM x\nENV LONELY\n")
