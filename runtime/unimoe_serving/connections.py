"""Limits of connections: how many are open, and how long each may keep the server waiting for a request.

Without them, a thousand silent connections use up the process's file descriptors. asyncio then cannot accept any other
connection, and logs each attempt.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from unimoe_serving.config import ServerLimits
from unimoe_serving.errors import RequestError

BACKLOG = 128
"""Connections that may wait to be accepted. asyncio accepts so many before it tells any protocol."""
_OTHER_FILES = 2 * BACKLOG + 100
"""File descriptors beside the connections that count: those just accepted, uploads, libraries, listeners."""
_MAX_HEAD_BYTES = 1 << 16
_OFFER = re.compile(rb"(?i)\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n|\Z)")


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


class _BoundedHttp(HttpToolsProtocol):
    """Refuses connections beyond `most` with status 503, and closes one that sends no complete head in `head_s`, or a
    head of more than `_MAX_HEAD_BYTES`."""

    most: int
    head_s: float

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._refused = False
        self._head_bytes = 0
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        if len(self.connections) >= self.most:
            self._refused = True
            error = RequestError("too many connections: try again later", status=503, code="too_many_connections")
            transport.write(_answer("503 Service Unavailable", error, "retry-after: 1\r\n"))
            transport.close()
            return
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        was_answering = self._answers
        super().data_received(data if was_answering else _without_offer(data))
        self._watch()
        if self._answers:
            self._head_bytes = 0
        elif not was_answering:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
                error = RequestError("the request's head is too large", status=431, code="head_too_large")
                self.transport.write(_answer("431 Request Header Fields Too Large", error))
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP."""
        self.transport.write(_answer("400 Bad Request", RequestError("the request is not HTTP", code="invalid_http")))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._refused:
            self._stop_watching()
            super().connection_lost(exc)

    @property
    def _answers(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

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


def _without_offer(data: bytes) -> bytes:
    """A request without its offer to go on in HTTP/2, as Java's and curl's clients make it.

    A server may ignore the offer, but the parser would take the body for HTTP/2.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _OFFER.sub(b"", head) + end + rest if b"h2c" in head else data


def _answer(status: str, error: RequestError, headers: str = "") -> bytes:
    """A whole response in OpenAI's JSON, where no request was read."""
    body = json.dumps(error.body).encode()
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
