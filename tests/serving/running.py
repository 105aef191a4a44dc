"""A real server for tests, on a free port of loopback, in a thread of this process, with access to its service."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from unimoe_serving.app import create_app
from unimoe_serving.config import BundleSource, ServerConfig, ServerLimits
from unimoe_serving.connections import bounded_http
from unimoe_serving.service import Service
from unimoe_serving.web_socket import WebSocketProtocol

LONG = "I do hope that this works, and that you can hear me well. " * 60
"""A text that takes the tests' bundle a few seconds."""


class RunningServer:
    """A server's address, and its service, which tests may read but not change."""

    def __init__(self, port: int, service: Service) -> None:
        self.port, self.service = port, service
        self.url = f"http://127.0.0.1:{port}"

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request, as JSON unless the body is bytes. Returns status, headers in lower case, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body, sent = json.dumps(body).encode(), {"content-type": "application/json", **sent}
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def post_form(
        self, path: str, fields: dict[str, str], file: tuple[str, str, bytes]
    ) -> tuple[int, dict[str, str], bytes]:
        """Post a multipart form with one file: its field, name and content."""
        edge = "0123456789"
        parts = [f'--{edge}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
                 for name, value in fields.items()]  # fmt: skip
        name, file_name, content = file
        head = f'--{edge}\r\ncontent-disposition: form-data; name="{name}"; filename="{file_name}"\r\n\r\n'
        body = b"".join([*parts, head.encode(), content, f"\r\n--{edge}--\r\n".encode()])
        return self.ask("POST", path, body, {"content-type": f"multipart/form-data; boundary={edge}"})

    def refuses(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Refusal:
        """Send a request that must be refused with one line in OpenAI's error format."""
        status, sent, answer = self.ask(method, path, body, headers)
        assert status >= 400, answer[:200]
        error = json.loads(answer)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert "\n" not in error["message"] and "Traceback" not in error["message"] and "/tmp" not in error["message"]
        return Refusal(status, sent, error["message"], error["param"], error["code"])

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value, summed over the labels that are not given."""
        total = 0.0
        for family in self.service.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == f"unimoe_{name}" and labels.items() <= sample.labels.items():
                    total += sample.value
        return total

    def wait_idle(self) -> None:
        """Wait until no row is held, for a few steps at most."""
        until(lambda: not self.service.admission.active and not self.service.admission.waiting)


class Refusal:
    def __init__(self, status: int, headers: dict[str, str], message: str, param: str | None, code: str | None) -> None:
        self.status, self.headers, self.message, self.param, self.code = status, headers, message, param, code


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to hold in time"
        time.sleep(0.01)


@contextmanager
def running_server(
    bundles: dict[str, Path], *, limits: ServerLimits | None = None, ready: bool = True, **settings: Any
) -> Iterator[RunningServer]:
    """Serve bundles by name; by default wait until they are ready."""
    sources = tuple(BundleSource(name=name, path=path) for name, path in bundles.items())
    config = ServerConfig(bundles=sources, limits=limits or ServerLimits(), **settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app(replace(config, port=0))
        served = uvicorn.Config(
            app, log_config=None, ws=WebSocketProtocol, timeout_keep_alive=75, http=bounded_http(config.limits)
        )
        server = uvicorn.Server(served)
        loops = asyncio.Runner(loop_factory=uvloop.new_event_loop)

        def serve() -> None:
            with loops:
                loops.run(server.serve([listener]))

        thread = threading.Thread(target=serve, name="server")
        thread.start()
        try:
            running = RunningServer(listener.getsockname()[1], app.state.service)
            if ready:
                until(lambda: running.service.ready or running.service.load_error is not None, seconds=120)
                assert running.service.load_error is None
            yield running
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
