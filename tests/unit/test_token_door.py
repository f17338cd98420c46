"""The one private door to Ray: it must fail loudly here when Ray moves it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os
os.environ.pop("RAY_AUTH_MODE", None)
import ray
from ray._private.authentication.authentication_token_setup import get_authentication_mode, AuthenticationMode
from ray._raylet import AuthenticationTokenLoader
from rayline.cluster import disconnect, use_token
use_token({path!r})
assert get_authentication_mode() == AuthenticationMode.TOKEN
assert AuthenticationTokenLoader.instance().has_token()
disconnect()
assert "RAY_AUTH_MODE" not in os.environ
assert get_authentication_mode() != AuthenticationMode.TOKEN
print("token mode")
"""

NAMED_LATER = """
import os
os.environ["RAY_AUTH_MODE"] = "disabled"
import ray
from ray._private.authentication.authentication_token_setup import get_authentication_mode, AuthenticationMode
from ray._raylet import AuthenticationTokenLoader
from rayline import cluster
assert get_authentication_mode() == AuthenticationMode.DISABLED
os.environ |= {{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": {path!r}}}
cluster._authenticate()
assert get_authentication_mode() == AuthenticationMode.TOKEN
assert AuthenticationTokenLoader.instance().has_token()
print("token mode")
"""


@pytest.mark.parametrize("code", [CODE, NAMED_LATER], ids=["of a local cluster", "of the shell"])
def test_a_token_counts_even_where_ray_was_imported_before(tmp_path: Path, code: str) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    done = subprocess.run(
        [sys.executable, "-c", code.format(path=str(token))], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "token mode", done.stderr
