"""`unimoe serve` as a process: prints its address and drains on SIGTERM."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.serving.running import LONG

SERVE = (sys.executable, "-c", "from unimoe.cli import main; main()", "serve")


def start(*arguments: str | Path, **environment: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """A ready server, and its output lines by scheme (lines with an address) or by first word."""
    command = [*SERVE, *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert process.stderr is not None
    said: dict[str, str] = {}
    for line in process.stderr:
        said[line.split(":")[0] if "://" in line else line.split()[0]] = line.strip()
        if line.startswith("ready after"):
            return process, said
    raise AssertionError(said)


def port_of(said: dict[str, str]) -> int:
    return int(said["http"].split(":")[2])


def ask(port: int, path: str, body: dict | None = None, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    content = None if body is None else json.dumps(body)
    connection.request(
        "GET" if body is None else "POST", path, content, {"content-type": "application/json", **headers}
    )
    return connection.getresponse()


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
def test_a_second_signal_ends_at_once(tiny_bundle: Path) -> None:
    process, said = start(tiny_bundle, UNIMOE_API_KEY="s3cret")
    response = ask(port_of(said), "/v1/audio/speech", {"input": LONG}, authorization="Bearer s3cret")
    assert response.status == 200
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert process.stderr is not None
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
