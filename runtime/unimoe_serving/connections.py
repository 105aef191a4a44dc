"""Limits of connections: how many are open, and how long each may keep the server waiting for a request.

Without them, a thousand silent connections use up the process's file descriptors. asyncio then cannot accept any other
connection, and logs each attempt.
"""

from __future__ import annotations

import asyncio
import json
import resource
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from unimoe_serving.config import ServerLimits
from unimoe_serving.errors import RequestError

BACKLOG = 128
"""Connections that may wait to be accepted. asyncio accepts so many before it tells any protocol."""
_OTHER_FILES = 2 * BACKLOG + 100
"""File descriptors beside the connections that count: those just accepted, uploads, libraries, listeners."""


def connection_limit(wanted: int) -> int:
    """Connections that one listener may hold: `wanted`, or fewer where the process may open few files.

    Raises the soft limit of open files as far as the hard limit allows.
    """
    needed = 2 * wanted + _OTHER_FILES  # two listeners: HTTP and Wyoming
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(wanted, (soft - _OTHER_FILES) // 2))


def bounded_http(limits: ServerLimits) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol with the limits of connections."""
    settings = {"most": connection_limit(limits.max_connections), "head_s": limits.head_s}
    return type("BoundedHttp", (_BoundedHttp,), settings)


class _BoundedHttp(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # uvicorn chooses the class when it is imported
    """Refuses connections beyond `most` with status 503, and closes one that sends no complete head in `head_s`."""

    most: int
    head_s: float

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._refused = False
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        if len(self.connections) >= self.most:
            self._refused = True
            transport.write(_full())
            transport.close()
            return
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._refused:
            self._stop_watching()
            super().connection_lost(exc)

    def _watch(self) -> None:
        """Count the time while no request is being answered. A byte now and then does not restart it."""
        if self._answers or self.transport.get_protocol() is not self:
            self._stop_watching()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.head_s, self._too_late)

    def _stop_watching(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_late(self) -> None:
        self._waiting = None
        if not self._answers and not self.transport.is_closing():
            self.transport.close()

    @property
    def _answers(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete


def _full() -> bytes:
    """The response to a connection beyond the limit."""
    error = RequestError("too many connections: try again later", status=503, code="too_many_connections")
    body = json.dumps(error.body).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
