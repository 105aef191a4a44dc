"""`WS /v1/audio/stream`: text in pieces, as from a language model; audio out, sentence by sentence.

The caller sends JSON: `start` with the fields of `/v1/audio/speech` except `input`, then `text` (`{"text": "…"}`),
`flush` (the text is complete), `cancel` (barge-in), `ping`. It receives binary frames of audio, and JSON: `started`,
`sentence`, `sentence_end` with figures, `routing` if requested, `done` after a flush, `cancelled`, `error`.
After `cancelled` no audio of earlier text comes.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from unimoe_serving.conversation import Session
from unimoe_serving.errors import RequestError
from unimoe_serving.fields import Fields, parse_object
from unimoe_serving.live_stream import LiveStream, Piece
from unimoe_serving.routes.audio import read_output
from unimoe_serving.service import Job, Service, refusal

_SEND_FAILED = (WebSocketDisconnect, RuntimeError, OSError)


async def text_stream(socket: WebSocket, service: Service) -> None:
    """Serve one connection, which may start any number of conversations, one after the other."""
    await socket.accept()
    session = _Session(socket, service)
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                break
            await session.handle(message.get("text") or "")
    except ConnectionError:
        pass  # the caller left during a send
    finally:
        await session.close()


class _Session(Session):
    """Reads one connection's messages."""

    def __init__(self, socket: WebSocket, service: Service) -> None:
        super().__init__(service)
        self._socket, self._sending = socket, asyncio.Lock()

    async def handle(self, message: str) -> None:
        """Handle a message. Whatever fails, the caller gets an error, and the connection stays open."""
        try:
            await super().handle(message)
        except ConnectionError:
            raise
        except Exception as error:
            await self.failed(error)

    async def sentence(self, index: int, text: str, live: LiveStream) -> None:
        await self._send({"type": "sentence", "index": index, "text": text, "sample_rate_hz": live.rate_hz})

    async def audio(self, piece: Piece) -> None:
        if piece.routing is not None and piece.routing.masks:
            await self._send({"type": "routing", **piece.routing.as_dict()})
        if piece.data:
            await self._guarded(self._socket.send_bytes(piece.data))

    async def sentence_end(self, index: int, live: LiveStream) -> None:
        outcome = live.outcome
        await self._send({"type": "sentence_end", "index": index, "figures": outcome and outcome.figures()})

    async def done(self) -> None:
        await self._send({"type": "done"})

    async def failed(self, error: Exception) -> None:
        await self._send({"type": "error", **refusal(error, self._service.metrics).body})

    async def read(self, text: str) -> None:
        if len(text) > self._service.limits.max_json_bytes:
            raise RequestError("the message is too large", code="body_too_large")
        fields = Fields(parse_object(text, "message"))
        kind = fields.choice("type", ("start", "text", "flush", "cancel", "ping"), "")
        if kind == "start":
            await self._start(fields)
            return
        if kind == "ping":
            await self._send({"type": "pong"})
            return
        if self._conversation is None:
            raise RequestError("send a message of type start first", code="not_started")
        if kind == "text":
            piece = fields.text("text", most=self._service.limits.max_text_characters)
            fields.finish()
            self._conversation.add(piece)
        elif kind == "flush":
            self._conversation.flush()
        else:
            self._conversation.interrupt()
            await self._send({"type": "cancelled"})

    async def _start(self, fields: Fields) -> None:
        service = self._service
        service.admission.require_open()
        model = service.find_model(fields)
        fields.ignore("instructions")
        audio, _, watch_routing = read_output(fields, "pcm")
        request = service.read_request(fields, model, "speech", text="…")
        fields.finish()

        def make_job(sentence: str) -> Job:
            return Job(model=model, request=replace(request, text=sentence), audio=audio, watch_routing=watch_routing)

        await self.begin(make_job, model.abbreviations)
        rate_hz = audio.rate_hz(model.synthesizer.sample_rate_hz)
        await self._send({"type": "started", "model": model.name, "sample_rate_hz": rate_hz, "format": audio.name})

    async def _send(self, content: dict[str, Any]) -> None:
        await self._guarded(self._socket.send_text(json.dumps(content, separators=(",", ":"))))

    async def _guarded(self, sending: Any) -> None:
        """Send, or raise ConnectionError if the caller is gone or takes nothing for `send_s`."""
        try:
            async with self._sending, asyncio.timeout(self._service.limits.send_s):
                await sending
        except (TimeoutError, *_SEND_FAILED):
            raise ConnectionError("the connection is gone") from None
