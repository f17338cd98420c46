"""Who may ask: tokens from files that only their owner reads, and strangers who cannot hold anybody up."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from rayline.config import AccessConfig, load
from rayline.errors import ConfigError, NotFoundError
from rayline.serving.http.access import Access, Tokens, refuse_open_host
from rayline.serving.http.peers import Peers

ASK, ADMIN = b"a" * 32, b"b" * 32
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NODE, STRANGER = "127.0.0.1", "198.51.100.9"


def token_file(folder: Path, text: str = "a" * 32, mode: int = 0o600, name: str = "token") -> str:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_tokens_are_read_from_files_of_their_owner(tmp_path: Path) -> None:
    access = AccessConfig(
        token_file=token_file(tmp_path, "a" * 32 + "\n"), admin_token_file=token_file(tmp_path, "b" * 32, name="admin")
    )
    assert Tokens.read(access) == Tokens(ASK, ADMIN)
    assert not Tokens.read(AccessConfig()).any


def test_a_token_file_that_is_not_there_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"token_file '.*/none' does not exist\. Make one: \(umask 077 && python3"):
        Tokens.read(AccessConfig(token_file=str(tmp_path / "none")))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = token_file(tmp_path, mode=mode)
    with pytest.raises(ConfigError, match=rf"has mode {mode:04o}, .*chmod 600 {path}"):
        Tokens.read(AccessConfig(token_file=path))


@pytest.mark.parametrize(
    "text", ["", "short", "two words are none at all", "a" * 20 + "\x00", "ä" * 20, "a" * 20 + "\nb"]
)
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="must hold one token of at least 16"):
        Tokens.read(AccessConfig(admin_token_file=token_file(tmp_path, text)))


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (pipe, tmp_path):
        with pytest.raises(ConfigError, match=r"cannot be read|is no plain file"):
            Tokens.read(AccessConfig(token_file=str(path)))


def test_one_token_for_both_is_refused(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    with pytest.raises(ConfigError, match="hold the same token"):
        Tokens.read(AccessConfig(token_file=path, admin_token_file=path))


def test_a_wider_address_needs_a_token() -> None:
    with pytest.raises(ConfigError, match=r"service\.host '0\.0\.0\.0' can be reached .*service\.access\.token_file"):
        refuse_open_host("0.0.0.0", LOOPBACK, AccessConfig(admin_token_file="x"))
    refuse_open_host("0.0.0.0", LOOPBACK, AccessConfig(token_file="x"))
    refuse_open_host("127.0.0.1", LOOPBACK, AccessConfig())


def test_files_are_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "rayline.yaml").write_text(
        "name: x\ndata: {source: x.csv}\nfeatures: {target: y}\nservice: {access: {token_file: secrets/token}}\n"
    )
    assert load(tmp_path / "rayline.yaml").service.access.token_file == str(tmp_path / "secrets/token")


def verdict(tokens: Tokens, path: str, shown: bytes | None, address: str = NODE) -> int:
    access = Access("churn", tokens, frozenset({NODE}))
    headers = [(b"host", b"x")] if shown is None else [(b"authorization", shown)]
    if access.admits(address):
        return 200
    refused = asyncio.run(access.refusal(address, path, headers))
    return 200 if refused is None else refused[0]


@pytest.mark.parametrize(
    ("tokens", "path", "shown", "status"),
    [
        (Tokens(), "/predict", None, 200),
        (Tokens(), "/", None, 200),
        (Tokens(ASK), "/predict", None, 401),
        (Tokens(ASK), "/predict", b"Bearer " + b"x" * 32, 401),
        (Tokens(ASK), "/predict", b"Bearer", 401),
        (Tokens(ASK), "/predict", b"Basic " + ASK, 401),
        (Tokens(ASK), "/predict", ASK, 401),
        (Tokens(ASK), "/predict", b"Bearer \xff\xfe", 401),
        (Tokens(ASK), "/predict", b"bearer " + ASK, 200),
        (Tokens(ASK), "/", b"Bearer " + ASK, 200),
        (Tokens(ASK), "/", None, 401),
        (Tokens(ASK), "/v2/health/ready", None, 200),
        (Tokens(ASK), "/v2/models/churn", None, 401),
        (Tokens(ASK, ADMIN), "/", b"Bearer " + ASK, 403),
        (Tokens(ASK, ADMIN), "/", b"Bearer " + ADMIN, 200),
        (Tokens(ASK, ADMIN), "/predict", b"Bearer " + ADMIN, 200),
        (Tokens(None, ADMIN), "/predict", None, 200),
        (Tokens(None, ADMIN), "/", None, 401),
    ],
)
def test_each_door_opens_to_its_token(tokens: Tokens, path: str, shown: bytes | None, status: int) -> None:
    assert verdict(tokens, path, shown) == status


@pytest.mark.parametrize(
    ("tokens", "path", "shown", "status"),
    [
        (Tokens(), "/predict", None, 403),
        (Tokens(), "/predict", b"Bearer " + ASK, 403),
        (Tokens(ASK), "/predict", None, 403),
        (Tokens(ASK), "/v2/health/live", None, 403),
        (Tokens(ASK), "/predict", b"Bearer " + ASK, 200),
        (Tokens(ASK), "/v2/health/live", b"Bearer " + ASK, 200),
        (Tokens(ASK, ADMIN), "/", b"Bearer " + ASK, 403),
        (Tokens(ASK, ADMIN), "/", b"Bearer " + ADMIN, 200),
    ],
)
def test_a_stranger_needs_a_token_for_anything(tokens: Tokens, path: str, shown: bytes | None, status: int) -> None:
    assert verdict(tokens, path, shown, STRANGER) == status


def test_a_node_that_joins_is_known_and_is_asked_for_once() -> None:
    asked: list[int] = []

    def nodes() -> frozenset[str]:
        asked.append(threading.get_ident())
        return frozenset({"10.0.0.7"})

    peers = Peers(nodes)

    async def connect() -> list[bool]:
        return await asyncio.gather(*(peers.asked_again(address) for address in ["10.0.0.7"] * 3 + [STRANGER] * 100))

    assert asyncio.run(connect()) == [True] * 3 + [False] * 100
    assert "10.0.0.7" in peers
    assert len(asked) == 1
    assert asked[0] != threading.get_ident()


def test_strangers_cannot_hold_up_the_event_loop_while_ray_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayline.serving.http.peers.ANSWER_SECONDS", 0.2)
    release = threading.Event()

    def stuck() -> frozenset[str]:
        release.wait(20)
        raise OSError("no head")

    peers = Peers(stuck)

    async def storm() -> float:
        waiting = [asyncio.create_task(peers.asked_again(STRANGER)) for _ in range(500)]
        await asyncio.sleep(0)
        began = time.monotonic()
        await asyncio.sleep(0)
        gap = time.monotonic() - began
        assert not any(await asyncio.gather(*waiting))
        release.set()
        return gap

    assert asyncio.run(storm()) < 10
    assert "127.0.0.1" in peers
