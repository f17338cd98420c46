"""The heads that a taken over connection reads itself: it reads each as the full parser does, or not at all."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from rayline.serving.http.fastlane import read_head

PATH = b"/churn/predict"
NAMES = ["Content-Length", "Connection", "Transfer-Encoding", "Expect", "Upgrade", "X-Session-Id", "A", "a b", ""]
VALUES = ["0", "2", "12", "-1", "+3", "0x2", "1, 1", "keep-alive", "close", "chunked", "", " a ", "\t", "\x00", "\x7f"]
FIRSTS = [
    "GET /churn/predict HTTP/1.1",
    "POST /churn/predict HTTP/1.0",
    "POST /churn/predict?a HTTP/1.1",
    "POST  / HTTP/1.1",
]
PLAIN = "POST /churn/predict HTTP/1.1"

ANY_NAME = st.sampled_from(NAMES) | st.text(max_size=6)
ANY_VALUE = st.sampled_from(VALUES) | st.text(max_size=8)
ODD = st.tuples(
    ANY_NAME,
    st.sampled_from([": ", ":", " : ", ":\t", ""]),
    ANY_VALUE,
    st.sampled_from(["\r\n", "\n", "\r", "\r\n ", ""]),
)
NEARLY = st.tuples(st.sampled_from(["A", "x-b", "Connection"]), st.just(":"), ANY_VALUE, st.just("\r\n"))
LINE = (ODD | NEARLY | NEARLY).map("".join)
LENGTH = st.sampled_from(["Content-Length: 12\r\n", "content-length:3 \r\n", "CONTENT-LENGTH:\t0\r\n"])
LINES = st.tuples(st.lists(LINE, max_size=2), LENGTH, st.lists(LINE, max_size=2)).map(
    lambda parts: "".join([*parts[0], parts[1], *parts[2]])
)
FIRST = st.just(PLAIN) | st.just(PLAIN) | st.sampled_from(FIRSTS)


class Parsed:
    """What the full parser of the server makes of bytes."""

    def __init__(self, raw: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.whole = False
        self.body = b""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(raw)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = True


@settings(max_examples=500, deadline=None)
@given(FIRST, LINES)
def test_a_head_that_is_read_here_is_read_so_by_the_full_parser(first: str, lines: str) -> None:
    head = f"{first}\r\n{lines}".encode("utf-8", "surrogatepass")
    if b"\r\n\r\n" in head or not head.endswith(b"\r\n"):
        return  # such a head never comes here
    found = read_head(head, PATH)
    event("read" if found else "left to the server")
    if found is None:
        return
    headers, length = found
    body = b"x" * length if length <= 1000 else b""
    full = Parsed(head + b"\r\n" + body)
    assert full.headers == headers
    assert (full.url, full.parser.get_method(), full.parser.get_http_version()) == (PATH, b"POST", "1.1")
    assert full.parser.should_keep_alive()
    assert not full.parser.should_upgrade()
    if length <= 1000:
        assert (full.whole, full.body) == (True, body)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["A", "x-session-id", "Accept"]), st.text("abc =;/", max_size=9)), max_size=6)
)
def test_a_plain_head_is_read_here(headers: list[tuple[str, str]]) -> None:
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    head = f"POST /churn/predict HTTP/1.1\r\n{''.join(lines)}Content-Length: 12\r\n".encode()
    found = read_head(head, PATH)
    assert found is not None
    assert found[1] == 12
    assert [name for name, _ in found[0]] == [*(name.lower().encode() for name, _ in headers), b"content-length"]


@pytest.mark.parametrize("name", ["Transfer-Encoding", "Expect", "Upgrade"])
@pytest.mark.parametrize("value", ["chunked", "keep-alive", "100-continue", ""])
def test_what_changes_how_a_body_is_read_is_left_to_the_server(name: str, value: str) -> None:
    assert read_head(f"POST /churn/predict HTTP/1.1\r\n{name}: {value}\r\nContent-Length: 1\r\n".encode(), PATH) is None


def test_no_length_or_two_are_left_to_the_server() -> None:
    plain = b"POST /churn/predict HTTP/1.1\r\nA: b\r\n"
    assert read_head(plain, PATH) is None
    assert read_head(plain + b"Content-Length: 1\r\n", PATH) is not None
    assert read_head(plain + b"Content-Length: 1\r\nContent-Length: 1\r\n", PATH) is None
