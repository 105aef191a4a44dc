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

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from unimoe_serving.config import ServerLimits
from unimoe_serving.errors import RequestError
from unimoe_serving.request_parser import RequestParser

BACKLOG = 128
"""Connections that may wait to be accepted. asyncio accepts so many before it tells any protocol."""
_OTHER_FILES = 2 * BACKLOG + 100
"""File descriptors beside the connections that count: those just accepted, uploads, libraries, listeners."""
_MAX_HEAD_BYTES = 1 << 16


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
    settings = {
        "most": connection_limit(limits.max_connections), "head_s": limits.head_s, "send_s": limits.send_s,
    }  # fmt: skip
    return type("BoundedHttp", (_BoundedHttp,), settings)


class _BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP protocol, except that it

    - refuses connections beyond `most` with status 503;
    - closes one that sends no complete head in `head_s`, or a head of more than `_MAX_HEAD_BYTES`;
    - ignores an offer of any protocol but WebSocket, and of WebSocket where it cannot change to it;
    - closes one whose caller takes nothing for `send_s`, though there is something to send;
    - tells every request of a lost connection that the caller left, not only the last of a pipeline.
    """

    most: int
    head_s: float
    send_s: float

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.parser = RequestParser(self, self._should_upgrade)  # type: ignore[assignment]
        self._answering: RequestResponseCycle | None = None
        self._refused = False
        self._head_bytes = 0
        self._waiting: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._unsent: int | None = None
        """Bytes that waited for the caller at the last look; None if the caller may have taken some since."""

    def connection_made(self, transport: Any) -> None:
        if len(self.connections) >= self.most:
            self._refused = True
            error = RequestError("too many connections: try again later", status=503, code="too_many_connections")
            transport.write(whole_answer("503 Service Unavailable", error, "retry-after: 1\r\n"))
            transport.close()
            return
        super().connection_made(transport)
        self._watch()
        self._look = self.loop.call_later(self.send_s, self._free_if_stuck)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        was_answering = self._answers
        super().data_received(data)
        self._watch()
        if self._answers:
            self._head_bytes = 0
        elif not was_answering:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
                error = RequestError("the request's head is too large", status=431, code="head_too_large")
                self.transport.write(whole_answer("431 Request Header Fields Too Large", error))
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP."""
        self.transport.write(
            whole_answer("400 Bad Request", RequestError("the request is not HTTP", code="invalid_http"))
        )
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._refused:
            return
        self._stop_watching()
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def resume_writing(self) -> None:
        """Note that the caller took something."""
        self._unsent = None
        super().resume_writing()

    def _free_if_stuck(self) -> None:
        """End a connection whose caller took nothing since the last look; even one that closes would wait forever."""
        before, self._unsent = self._unsent, None
        if self.transport.is_closing() or self.flow.write_paused:
            self._unsent = self.transport.get_write_buffer_size()
            if before is not None and self._unsent >= before:
                self.transport.abort()
                return
        self._look = self.loop.call_later(self.send_s, self._free_if_stuck)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _should_upgrade(self) -> bool:
        """Whether the connection becomes a WebSocket: not while a request is being answered."""
        return self.scope["method"] == "GET" and not self._answers and super()._should_upgrade()

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


def whole_answer(status: str, error: RequestError, headers: str = "") -> bytes:
    """A whole response in OpenAI's JSON, where no request was read."""
    body = json.dumps(error.body).encode()
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
