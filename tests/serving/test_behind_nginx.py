"""Two servers behind nginx with the configuration of docs/how-to/scale.md, with other addresses and without TLS."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.serving.process import ask, port_of, start
from tests.serving.running import LONG

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "scale.md"
BODY = {"input": LONG[:600], "response_format": "wav", "seed": 1}


def configuration(ports: list[int], port: int, folder: Path) -> str:
    """The page's configuration as a whole file that a user without rights can run."""
    match = re.search(r"```\n(upstream .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None
    written = match[1].replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    for old, new in zip(("10.0.0.11:8000", "10.0.0.12:8000"), ports, strict=True):
        assert old in written
        written = written.replace(old, f"127.0.0.1:{new}")
    places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{place}_temp_path {folder}/{place};" for place in places)
    return (
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary}\n{written} }}\n"
    )


@pytest.fixture
def proxied(tiny_bundle: Path, tmp_path: Path) -> Iterator[tuple[int, list[subprocess.Popen[str]]]]:
    """The port of nginx, and the two servers behind it."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    # nginx sends the upstream's name as the Host.
    servers = [start(tiny_bundle, "--allowed-host", "unimoe", "--allowed-host", "127.0.0.1") for _ in range(2)]
    file = tmp_path / "nginx.conf"
    file.write_text(configuration([port_of(said) for _, said in servers], port, tmp_path))
    proxy = subprocess.Popen([nginx, "-p", str(tmp_path), "-c", str(file)])
    try:
        end = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert proxy.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        yield port, [process for process, _ in servers]
    finally:
        proxy.terminate()
        proxy.wait(20)
        for process, _ in servers:
            process.kill()
            process.wait(20)
            assert process.stderr is not None
            process.stderr.close()


@pytest.mark.slow
def test_streams_sockets_and_a_server_that_ends(proxied: tuple[int, list[subprocess.Popen[str]]]) -> None:
    port, servers = proxied
    response = ask(port, "/v1/audio/speech", BODY)
    assert response.status == 200
    began = time.monotonic()
    first = response.read(44)
    first_s = time.monotonic() - began
    whole = first + response.read()
    assert first_s < (time.monotonic() - began) / 2, "the proxy passes the first chunk on at once"
    with connect(f"ws://127.0.0.1:{port}/v1/audio/stream") as client:
        client.send(json.dumps({"type": "start"}))
        assert json.loads(client.recv())["type"] == "started"
    servers[0].send_signal(signal.SIGTERM)
    for _ in range(10):
        assert ask(port, "/v1/audio/speech", BODY).read() == whole
    servers[0].wait(20)
    for _ in range(4):
        assert ask(port, "/v1/audio/speech", BODY).read() == whole
