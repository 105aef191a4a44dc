"""Text in pieces: order, interruption, and a listener who leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.serving.running import LONG
from tests.serving.services import job, with_service
from unimoe_serving.conversation import Conversation
from unimoe_serving.errors import RequestError
from unimoe_serving.live_stream import LiveStream, Piece
from unimoe_serving.service import Service


class Listener:
    """Records what it receives; leaves after a given number of audio pieces."""

    def __init__(self, goes_after: int = 10**9) -> None:
        self.heard: list[str] = []
        self._pieces_left = goes_after
        self.finished = asyncio.Event()

    async def sentence(self, index: int, text: str, live: LiveStream) -> None:
        self.heard.append(f"{index} {text}")

    async def audio(self, piece: Piece) -> None:
        self._pieces_left -= 1
        if self._pieces_left < 0:
            raise ConnectionError

    async def sentence_end(self, index: int, live: LiveStream) -> None:
        self.heard.append(f"{index} end")

    async def done(self) -> None:
        self.heard.append("done")
        self.finished.set()

    async def failed(self, error: Exception) -> None:
        self.heard.append(f"failed: {error}"[:20])


def converse(bundle: Path, use: Callable[[Service, Conversation, Listener], Awaitable[None]], **options: int) -> None:
    async def run(service: Service) -> None:
        listener = Listener(**options)
        conversation = Conversation(service, lambda sentence: job(service, sentence), listener)
        await use(service, conversation, listener)
        await conversation.close()
        assert service.admission.active == 0

    with_service(bundle, run)


def test_sentences_in_order_and_what_cannot_be_spoken(tiny_bundle: Path) -> None:
    async def use(service: Service, conversation: Conversation, listener: Listener) -> None:
        for piece in ("?!", None, "Hello", ". W", "ell", None):
            if piece is None:
                conversation.flush()
            else:
                conversation.add(piece)
        await conversation.join()
        assert listener.heard == ["failed: there is not", "done", "1 Hello.", "1 end", "2 Well", "2 end", "done"]

    converse(tiny_bundle, use)


def test_interrupted(tiny_bundle: Path) -> None:
    async def use(service: Service, conversation: Conversation, listener: Listener) -> None:
        conversation.add(LONG[:3000])
        conversation.flush()
        while not listener.heard:
            await asyncio.sleep(0)
        conversation.interrupt()
        heard = list(listener.heard)
        await service.admission.wait_idle()
        assert listener.heard == heard and "done" not in heard
        conversation.add("Hello.")
        conversation.flush()
        await listener.finished.wait()
        assert listener.heard[len(heard)].endswith(" Hello.")

    converse(tiny_bundle, use)


def test_a_listener_who_goes(tiny_bundle: Path) -> None:
    async def use(service: Service, conversation: Conversation, listener: Listener) -> None:
        conversation.add(LONG[:3000])
        await conversation.join()
        assert len(listener.heard) == 1

    converse(tiny_bundle, use, goes_after=1)


def test_too_much_text(tiny_bundle: Path) -> None:
    async def use(service: Service, conversation: Conversation, listener: Listener) -> None:
        with pytest.raises(RequestError, match="wait to be spoken"):
            conversation.add("a" * (service.limits.max_text_characters + 1))

    converse(tiny_bundle, use)


def test_draining_speaks_what_was_accepted(tiny_bundle: Path) -> None:
    """And refuses what comes when that has been spoken."""

    async def use(service: Service, conversation: Conversation, listener: Listener) -> None:
        conversation.add("Hello. Well. Yes. No.")
        conversation.flush()
        service.admission.drain()
        await service.admission.wait_idle()
        assert [line for line in listener.heard if line.endswith("end")] == [f"{index} end" for index in range(4)]
        conversation.add("Again.")
        conversation.flush()
        await conversation.join()
        assert listener.heard[-2:] == ["failed: the server is"[:20], "done"]

    converse(tiny_bundle, use)
