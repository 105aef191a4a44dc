"""`unimoe serve` as a process: prints its address and drains on SIGTERM."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving.process import SERVE, ask, port_of, start
from tests.serving.running import LONG


@pytest.mark.slow
def test_sigterm_drains(tiny_bundle: Path, tmp_path: Path) -> None:
    """A running stream is served to its end; requests after the signal are refused with Retry-After."""
    key = tmp_path / "key"
    key.write_text("s3cret\n")
    process, said = start(tiny_bundle, "--api-key-file", key, "--wyoming", "tcp://127.0.0.1:0")
    port = port_of(said)
    assert said["tcp"].endswith("Wyoming")
    assert ask(port, "/v1/models").status == 401
    authorization = {"authorization": "Bearer s3cret"}
    body = {"input": LONG[:240], "response_format": "wav"}
    whole = ask(port, "/v1/audio/speech", body, **authorization).read()
    with socket.create_connection(("127.0.0.1", port)):  # an idle connection does not delay the drain
        response = ask(port, "/v1/audio/speech", body, **authorization)
        first = response.read(44)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        try:
            refused = ask(port, "/v1/audio/speech", body, **authorization)
            assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1
            assert ask(port, "/readyz").status == 503
        except ConnectionError:
            pass  # the server had already ended
        assert first + response.read() == whole
        assert process.wait(30) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.slow
def test_what_takes_longer_than_the_drain(tiny_bundle: Path) -> None:
    """A stream breaks off, a waiting request is refused, and there is no traceback."""
    process, said = start(tiny_bundle, "--drain", "0.2", "--max-streams", "1")
    port = port_of(said)
    running = ask(port, "/v1/audio/speech", {"input": LONG, "response_format": "wav"})
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(ask, port, "/v1/audio/speech", {"input": "Hello."})
        while b"queue_waiting 1.0" not in ask(port, "/metrics").read():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        refused = waiting.result(20)
    assert refused.status == 503 and b"draining" in refused.read()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        running.read()
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.slow
def test_a_body_that_does_not_come_ends_with_the_server(tiny_bundle: Path) -> None:
    """Neither does it delay the end for long, nor leave a traceback; whoever waits for an answer gets one."""
    process, said = start(tiny_bundle)
    port = port_of(said)
    head = b"POST /v1/audio/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nContent-Type: %s\r\n\r\n{"
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as half,
        socket.create_connection(("127.0.0.1", port), timeout=60) as refused,
    ):
        half.sendall(head % (b"speech", b"application/json"))
        refused.sendall(head % (b"speech", b"text/plain"))
        assert b" 415 " in refused.recv(1000)
        process.send_signal(signal.SIGTERM)
        assert b" 503 " in half.recv(1000)
        assert process.wait(60) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.slow
def test_a_second_signal_ends_at_once(tiny_bundle: Path) -> None:
    process, said = start(tiny_bundle, UNIMOE_API_KEY="s3cret")
    response = ask(port_of(said), "/v1/audio/speech", {"input": LONG}, authorization="Bearer s3cret")
    assert response.status == 200
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_bundles_load_ends_the_server(tiny_bundle: Path, number: int) -> None:
    process = subprocess.Popen([*SERVE, str(tiny_bundle), "--port", "0"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    ask(int(process.stderr.readline().split(":")[2]), "/readyz").read()
    process.send_signal(number)
    assert process.wait(30) == 0
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
