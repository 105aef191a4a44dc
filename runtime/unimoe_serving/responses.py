"""A stream as an HTTP response: plain audio, or OpenAI's server-sent events. It ends when the caller leaves.

The status line waits for the first chunk, so that a request that fails before it gets an error status.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from unimoe_serving.errors import RequestError, shutting_down
from unimoe_serving.live_stream import LiveStream, Piece
from unimoe_serving.service import Job, Service, refusal


def error_response(error: RequestError) -> Response:
    """An error as JSON with its status and headers. In ASCII, as a request's fields may hold what UTF-8 cannot."""
    return Response(json.dumps(error.body), error.status, error.headers, "application/json")


class _Writer(Protocol):
    """Makes the parts of a response's body."""

    def media_type(self, live: LiveStream) -> str: ...
    def begin(self, live: LiveStream) -> bytes: ...
    def piece(self, piece: Piece) -> bytes: ...
    def end(self, live: LiveStream) -> bytes: ...
    def failed(self, error: RequestError) -> bytes: ...


class AudioResponse:
    """An ASGI application that answers one request with one stream."""

    def __init__(self, service: Service, job: Job, *, stream_format: str) -> None:
        self._service, self._job = service, job
        self._writer: _Writer = _Events(job) if stream_format == "sse" else _Audio(job)
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = asyncio.ensure_future(self._answer(scope, receive, send))
        left = asyncio.ensure_future(_client_left(receive))
        is_cut = False
        try:
            with self._service.answering(left):
                await asyncio.wait([answer, left], return_when=asyncio.FIRST_COMPLETED)
            is_cut = left.cancelled()
        finally:
            left.cancel()
            answer.cancel()
            await asyncio.wait([answer, left])
        if not answer.cancelled():
            answer.result()
        elif is_cut and not self._started:
            await error_response(shutting_down())(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._stream(send)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except TimeoutError:
            return  # the reader takes nothing: the connection is closed without an end of the body
        except Exception as error:
            refused = refusal(error, self._service.metrics)
            if not self._started:
                await error_response(refused)(scope, receive, send)
            elif last := self._writer.failed(refused):
                await send({"type": "http.response.body", "body": last})

    async def _stream(self, send: Send) -> None:
        async with self._service.stream(self._job) as live:
            async for piece in live:
                if not self._started:
                    await self._send(send, self._head(live))
                    self._started = True
                    body = self._writer.begin(live) + self._writer.piece(piece)
                else:
                    body = self._writer.piece(piece)
                if body:
                    await self._send(send, {"type": "http.response.body", "body": body, "more_body": True})
        # After the block, so that rows are free and everything is counted before the caller gets the end.
        await self._send(send, {"type": "http.response.body", "body": self._writer.end(live)})

    def _head(self, live: LiveStream) -> dict[str, Any]:
        headers = {
            "content-type": self._writer.media_type(live),
            "x-sample-rate": str(live.rate_hz),
            "x-model": self._job.model.name,
            "cache-control": "no-store",
            "x-accel-buffering": "no",  # otherwise nginx would buffer the first chunk
        }
        return {
            "type": "http.response.start",
            "status": 200,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }

    async def _send(self, send: Send, message: dict[str, Any]) -> None:
        async with asyncio.timeout(self._service.limits.send_s):
            await send(message)


class _Audio:
    """The bytes of the audio format."""

    def __init__(self, job: Job) -> None:
        self._audio = job.audio

    def media_type(self, live: LiveStream) -> str:
        return self._audio.media_type(live.rate_hz)

    def begin(self, live: LiveStream) -> bytes:
        return b""

    def piece(self, piece: Piece) -> bytes:
        return piece.data

    def end(self, live: LiveStream) -> bytes:
        return b""

    def failed(self, error: RequestError) -> bytes:
        return b""


class _Events:
    """OpenAI's events: `speech.audio.delta`, `speech.audio.done`, `error`.

    If routing is watched, there are also our events `unimoe.started` and `unimoe.routing`. The last event has the
    figures of the stream in `figures`.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def media_type(self, live: LiveStream) -> str:
        return "text/event-stream; charset=utf-8"

    def begin(self, live: LiveStream) -> bytes:
        if not self._job.watch_routing:
            return b""
        return _event({"type": "unimoe.started", "sample_rate_hz": live.rate_hz, "model": self._job.model.card()})

    def piece(self, piece: Piece) -> bytes:
        events = b""
        if piece.routing is not None and piece.routing.masks:
            events += _event({"type": "unimoe.routing", **piece.routing.as_dict()})
        if piece.data:
            events += _event({"type": "speech.audio.delta", "audio": base64.b64encode(piece.data).decode()})
        return events

    def end(self, live: LiveStream) -> bytes:
        outcome = live.outcome
        assert outcome is not None
        text_tokens, steps = live.prompt_tokens, outcome.routing.steps
        usage = {"input_tokens": text_tokens, "output_tokens": steps, "total_tokens": text_tokens + steps}
        return _event({"type": "speech.audio.done", "usage": usage, "figures": outcome.figures()})

    def failed(self, error: RequestError) -> bytes:
        return _event({"type": "error", **error.body})


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


async def _client_left(receive: Receive) -> None:
    """Return when the connection is closed."""
    while (await receive())["type"] != "http.disconnect":
        pass
