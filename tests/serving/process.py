"""`unimoe serve` in its own process."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path

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
