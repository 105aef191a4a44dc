"""Connections beyond the limits: too many, and those that send no request."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.serving.running import LONG, RunningServer, running_server, until
from unimoe_serving.config import ServerLimits
from unimoe_serving.connections import connection_limit

HEADS = (b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"\x16\x03\x01\x00\xc8")


@pytest.fixture(scope="module")
def small(tiny_bundle: Path) -> Iterator[RunningServer]:
    with running_server({"tiny": tiny_bundle}, limits=ServerLimits(max_connections=6, head_s=0.4)) as running:
        yield running


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        while connection.recv(4096):
            continue
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_does_not_come(small: RunningServer, head: bytes) -> None:
    """The connection is closed, however slowly its bytes come, also after a request that was answered."""
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", small.port)) as idle:
        idle.sendall(head)
        until(lambda: is_closed(idle), 5)
    with socket.create_connection(("127.0.0.1", small.port)) as again:
        again.sendall(request)
        assert again.recv(1000).startswith(b"HTTP/1.1 200")
        if head:
            again.sendall(head)
            until(lambda: is_closed(again), 5)


def test_a_byte_now_and_then(small: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", small.port)) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        end = time.monotonic() + 5
        while not is_closed(slow):
            assert time.monotonic() < end
            slow.send(b"a")
            time.sleep(0.02)


def answer_to(server: RunningServer, sent: bytes) -> bytes:
    """What the server answers before it closes the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        with suppress(ConnectionError):
            connection.sendall(sent)
        with suppress(ConnectionError):
            while piece := connection.recv(4096):
                answer += piece
    return answer


def test_what_is_not_http(small: RunningServer) -> None:
    assert b"invalid_http" in answer_to(small, b"\x16\x03\x01\x00\xc8\r\n\r\n")


@pytest.mark.parametrize("last", ["", "Content-Type: application/json\r\n"])
def test_an_offer_of_http2_is_ignored(small: RunningServer, last: str) -> None:
    """Java's HttpClient sends it with every request."""
    body = b'{"input": ""}'
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    if not last:
        head += "Content-Type: application/json\r\n"
    head += f"Connection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: AAMAAABk\r\nUpgrade: h2c\r\n{last}\r\n"
    answer = answer_to(small, head.encode() + body)
    assert answer.startswith(b"HTTP/1.1 400") and b"the text is empty" in answer


def test_a_head_that_does_not_end(small: RunningServer) -> None:
    """It is answered, or cut off, before it fills the memory."""
    answer = answer_to(small, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1234567890\r\n" * 20_000)
    assert not answer or b"head_too_large" in answer
    assert small.ask("GET", "/healthz")[0] == 200


def test_too_many_are_refused_and_the_server_goes_on(tiny_bundle: Path) -> None:
    with running_server({"tiny": tiny_bundle}, limits=ServerLimits(max_connections=6)) as server:
        with ExitStack() as opened:
            many = [opened.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(40)]
            until(lambda: sum(map(is_closed, many)) == 34, 5)
            refused = server.refuses("GET", "/v1/models")
            assert refused.status == 503 and refused.code == "too_many_connections"
            assert refused.headers["retry-after"] == "1"
        until(lambda: server.ask("GET", "/v1/models")[0] == 200, 5)


@pytest.mark.slow
def test_a_long_answer_is_not_cut(small: RunningServer) -> None:
    """The time for a head does not limit the answer, nor a WebSocket's life."""
    speech = {"input": "I do hope that this works. " * 12, "voice": "ann", "response_format": "wav"}
    assert small.ask("POST", "/v1/audio/speech", speech)[0] == 200
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{small.port}/v1/audio/stream") as connection:
        time.sleep(0.6)
        connection.send('{"type": "ping"}')
        assert "pong" in connection.recv(5)


def test_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit is raised up to the hard one; where that is low, fewer connections are held."""
    limits = {"now": (1024, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda which, wanted: limits.update(now=wanted))
    assert connection_limit(1000) == 1000 and limits["now"][0] > 2000
    limits["now"] = (1024, 1024)
    assert 100 < connection_limit(1000) < 500
    limits["now"] = (64, 64)
    assert connection_limit(1000) == 1


@pytest.mark.parametrize("last", ["", "Connection: close\r\n"])
def test_a_caller_who_takes_nothing(tiny_bundle: Path, last: str) -> None:
    """Its connection makes room for another one, even if it has closed by the server's account."""
    get = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
    limits = ServerLimits(max_connections=1, send_s=0.3, head_s=60)
    with running_server({"tiny": tiny_bundle}, limits=limits) as server, socket.socket() as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        idle.connect(("127.0.0.1", server.port))
        idle.settimeout(1)
        with suppress(OSError):
            idle.sendall(f"{get}\r\n".encode() * 2000 + f"{get}{last}\r\n".encode())
        until(lambda: server.ask("GET", "/healthz")[0] == 200)


HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\r\n\r\n", "\r\n" + "X: y\r\n" * 300 + "\r\n"), ("\r\n\r\n", f"\r\nX: {'y' * 20_000}\r\n\r\n"),
        ("/stream", "/stream?" + "y" * 20_000), ("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc"),
        ("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), ("Version: 13", "Version: 12"),
        ("Key: dG", "Key: d"), ("Sec-WebSocket-Key", "X"), ("/stream", "/speech"), ("/stream", ""),
    ],
)  # fmt: skip
def test_a_handshake_that_is_refused_is_answered(small: RunningServer, old: str, new: str) -> None:
    request = f"GET /v1/audio/stream HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n".replace(old, new)
    head, _, body = answer_to(small, request.encode()).partition(b"\r\n\r\n")
    assert head.split()[1] in (b"400", b"404"), head
    error = json.loads(body)["error"]
    assert error["message"] and error["code"] in ("invalid_websocket", "not_found")


def test_a_websocket_is_not_opened_amid_an_answer(small: RunningServer) -> None:
    """Nor by another method: both requests are answered as HTTP."""
    get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    opens = f"GET /v1/audio/stream HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n"
    last = opens.replace("GET", "POST").replace("Upgrade\r\nSec", "Upgrade, close\r\nSec")
    answer = answer_to(small, (get + opens + last).encode())
    assert answer.count(b"HTTP/1.1 200") == 1 and answer.count(b"HTTP/1.1 404") == 2


@pytest.mark.parametrize("requests", [1, 2, 4])
def test_the_caller_of_a_pipeline_leaves(server: RunningServer, requests: int) -> None:
    """The rows of the request that is being answered are free at once, whatever waits behind it."""
    cancelled = server.metric("streams_ended_total", outcome="cancelled")
    body = json.dumps({"input": LONG, "voice": "ann", "response_format": "wav"})
    head = "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request * requests)
        assert connection.recv(100)
    server.wait_idle()
    until(lambda: server.metric("streams_ended_total", outcome="cancelled") == cancelled + 1)
