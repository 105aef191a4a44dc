"""Reads what remains of a request's body before the answer ends.

A request may be refused before its body has come. Many clients send everything before they read. If the server closed
the connection then, or took the rest for another request, they would see a broken connection instead of the answer.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send


class UnreadBody:
    """`receive` and `send` of one request. The answer's last message waits for the body's end, `most_s` seconds long.

    The caller has the whole answer before that, if the answer states its length.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, most_s: float) -> None:
        headers = Headers(scope=scope)
        self._remains = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._receive, self._send, self._most_s = receive, send, most_s

    async def receive(self) -> Message:
        """The next part of the body, or the caller's leaving."""
        message = await self._receive()
        self._remains = self._remains and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and self._remains:
            await self._send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(self._most_s):
                    while self._remains:
                        await self.receive()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)
