"""Callers who leave, who read nothing, and who exceed the queue."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from tests.serving.running import LONG, RunningServer, running_server, until
from unimoe_serving.config import ServerLimits

SPEECH = {"input": LONG, "voice": "ann", "response_format": "pcm"}


def call(server: RunningServer, body: dict) -> socket.socket:
    """A connection with a sent request."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    content = json.dumps(body).encode()
    head = "POST /v1/audio/speech HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    connection.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    return connection


def reset(connection: socket.socket) -> None:
    """Close with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_leaving_frees_the_rows(server: RunningServer) -> None:
    """Callers leave before or after the first audio, with a TCP close or a reset."""
    before = server.metric("streams_ended_total")
    for index in range(4):
        connection = call(server, SPEECH)
        if index % 2:
            assert b"200 OK" in connection.recv(100)
        else:
            until(lambda: server.service.admission.active == 1)
        (reset if index < 2 else socket.socket.close)(connection)
        server.wait_idle()
    until(lambda: server.metric("streams_ended_total") == before + 4)
    assert server.metric("streams_ended_total", outcome="cancelled") >= 4
    assert server.metric("streams_started_total") == server.metric("streams_ended_total")


def test_leaving_the_queue_takes_no_slot(tiny_bundle: Path) -> None:
    with running_server({"tiny": tiny_bundle}, limits=ServerLimits(max_streams=1)) as server:
        first = call(server, SPEECH)
        until(lambda: server.service.admission.active == 1)
        others = [call(server, SPEECH) for _ in range(3)]
        until(lambda: server.service.admission.waiting == 3)
        for connection in others:
            reset(connection)
        until(lambda: server.service.admission.waiting == 0)
        first.close()
        server.wait_idle()
        assert server.metric("streams_started_total") == 1


def test_beyond_the_limits(tiny_bundle: Path) -> None:
    """One speaks, one waits, and the third is refused with Retry-After."""
    with running_server({"tiny": tiny_bundle}, limits=ServerLimits(max_streams=1, max_queue=1)) as server:
        speaking, waiting = call(server, SPEECH), call(server, SPEECH)
        until(lambda: server.service.admission.waiting == 1)
        refused = server.refuses("POST", "/v1/audio/speech", {**SPEECH, "input": "Hello."})
        assert refused.status == 429 and int(refused.headers["retry-after"]) >= 1
        assert server.metric("requests_refused_total", code="queue_full") == 1
        speaking.close()
        waiting.close()
        server.wait_idle()


@pytest.mark.slow
def test_a_reader_who_takes_nothing_is_left(tiny_bundle: Path) -> None:
    """The stream's rows are free afterwards, and other requests were served meanwhile."""
    with running_server({"tiny": tiny_bundle}, limits=ServerLimits(send_s=0.3, max_streams=2)) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.connect(("127.0.0.1", server.port))
        body = json.dumps({**SPEECH, "sample_rate_hz": 96000, "input": LONG}).encode()
        head = "POST /v1/audio/speech HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: server.service.admission.active == 1)
        assert server.ask("POST", "/v1/audio/speech", {**SPEECH, "input": "Hello."})[0] == 200
        server.wait_idle()
        connection.close()


def test_before_it_is_ready(tiny_bundle: Path) -> None:
    with running_server({"tiny": tiny_bundle}, ready=False) as server:
        refused = server.refuses("POST", "/v1/audio/speech", {**SPEECH, "input": "Hello."})
        assert refused.status == 503 and refused.code == "not_ready" and int(refused.headers["retry-after"]) >= 1
        assert server.refuses("GET", "/readyz").status == 503
        assert server.ask("GET", "/healthz")[0] == 200
        until(lambda: server.ask("GET", "/readyz")[0] == 200)


def test_no_thread_is_left(tiny_bundle: Path) -> None:
    before = set(threading.enumerate())
    with running_server({"tiny": tiny_bundle}) as server:
        assert server.ask("POST", "/v1/audio/speech", {**SPEECH, "input": "Hello."})[0] == 200
        call(server, SPEECH).close()
    end = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < end:
        time.sleep(0.02)
    assert set(threading.enumerate()) <= before
