"""Offers of other protocols, in requests that come in pieces."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe_serving.request_parser import RequestParser

BODY = b'{"input": "Hello."}'
LENGTHS = {
    "length": (b"Content-Length: %d\r\n" % len(BODY), BODY),
    "chunks": (b"Transfer-Encoding: chunked\r\n", b"9\r\n" + BODY[:9] + b"\r\na\r\n" + BODY[9:] + b"\r\n0\r\n\r\n"),
    "none": (b"", b""),
}
OFFERS = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    b"upgrade:\tTLS/1.0, HTTP/1.1\r\nconnection: keep-alive, UPGRADE\r\n",
    b"",
)


class Heard:
    """What uvicorn's protocol hears: a method, the headers' names and the body of each request."""

    def __init__(self) -> None:
        self.parser = RequestParser(self, lambda: False)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[tuple[bytes, bytes]] = []

    def on_message_begin(self) -> None:
        self.headers = []
        self.requests.append({"url": b"", "body": b"", "method": None, "ended": 0})

    def on_url(self, url: bytes) -> None:
        self.requests[-1]["url"] += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.requests[-1].update(method=self.parser.get_method(), names=[name for name, _ in self.headers])

    def on_body(self, body: bytes) -> None:
        assert not self.requests[-1]["ended"]
        self.requests[-1]["body"] += body

    def on_message_complete(self) -> None:
        self.requests[-1]["ended"] += 1


def request_of(path: bytes, offer: bytes, length: str) -> bytes:
    head, body = LENGTHS[length]
    return b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + offer + head + b"\r\n" + body


def heard_of(pieces: list[bytes]) -> list[dict[str, Any]]:
    heard = Heard()
    for piece in pieces:
        heard.parser.feed_data(piece)
    return heard.requests


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("offer", OFFERS)
def test_a_request_split_at_any_byte(offer: bytes, length: str) -> None:
    """Whole, in two pieces split anywhere, and byte by byte, the body is the same."""
    sent = request_of(b"/v1/audio/speech", offer, length)
    whole = heard_of([sent])
    assert [(request["body"], request["ended"]) for request in whole] == [(BODY if length != "none" else b"", 1)]
    for cut in range(len(sent) + 1):
        assert heard_of([sent[:cut], sent[cut:]]) == whole
    assert heard_of([sent[index : index + 1] for index in range(len(sent))]) == whole


@given(st.lists(st.tuples(st.sampled_from(OFFERS), st.sampled_from(list(LENGTHS))), min_size=1, max_size=4), st.data())
def test_requests_in_one_connection_are_kept_apart(kinds: list[tuple[bytes, str]], data: st.DataObject) -> None:
    sent = b"".join(request_of(b"/%d" % index, *kind) for index, kind in enumerate(kinds))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    heard = heard_of([sent[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)])
    assert [request["url"] for request in heard] == [b"/%d" % index for index in range(len(kinds))]
    assert all(request["ended"] == 1 and request["method"] == b"POST" for request in heard)
    assert [request["body"] for request in heard] == [b"" if length == "none" else BODY for _, length in kinds]


def test_an_offer_that_is_taken_ends_the_parsing() -> None:
    heard = Heard()
    heard.parser = RequestParser(heard, lambda: True)
    with pytest.raises(httptools.HttpParserUpgrade):
        heard.parser.feed_data(request_of(b"/", OFFERS[0], "none"))
