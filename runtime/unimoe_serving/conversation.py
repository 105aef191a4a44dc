"""Turns a text that arrives in pieces into audio, sentence by sentence; it can be interrupted at any time.

WebSocket and Wyoming use it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from unimoe_runtime import UnimoeError
from unimoe_serving.errors import RequestError
from unimoe_serving.live_stream import LiveStream, Piece
from unimoe_serving.sentences import SentenceCutter
from unimoe_serving.service import Job, Service


class Listener(Protocol):
    """Receives a conversation's events. After an interruption no method is called for the interrupted text."""

    async def sentence(self, index: int, text: str, live: LiveStream) -> None:
        """A sentence's first audio is ready."""

    async def audio(self, piece: Piece) -> None:
        """A piece of the sentence's audio is ready."""

    async def sentence_end(self, index: int, live: LiveStream) -> None:
        """All audio of a sentence was delivered."""

    async def done(self) -> None:
        """All text before a `flush` was spoken."""

    async def failed(self, error: Exception) -> None:
        """A sentence cannot be spoken; the next one is tried."""


class Conversation:
    """Speaks for one listener, in the order in which the text arrived.

    `make_job` turns a sentence into a job, or raises UnimoeError.
    """

    def __init__(
        self, service: Service, make_job: Callable[[str], Job], listener: Listener, abbreviations: tuple[str, ...] = ()
    ) -> None:
        self._service, self._make_job, self._listener = service, make_job, listener
        self._cutter = SentenceCutter(abbreviations)
        self._waiting: deque[str | None] = deque()  # None: a flush, after which the listener hears `done`
        self._work: asyncio.Task[None] | None = None
        self._interrupted: set[asyncio.Task[None]] = set()
        self._index = 0

    def add(self, piece: str) -> None:
        """Add text. Raises RequestError if the waiting text exceeds the limit of one request."""
        waiting = self._cutter.num_waiting + sum(len(sentence or "") for sentence in self._waiting)
        most = self._service.limits.max_text_characters
        if waiting + len(piece) > most:
            raise RequestError(
                f"more than {most} characters wait to be spoken: send them later", param="text", code="too_long"
            )
        self._take(self._cutter.add(piece))

    def flush(self) -> None:
        """Speak all text so far, even an unfinished sentence, and call `done` afterwards."""
        self._take([*self._cutter.flush(), None])

    def interrupt(self) -> None:
        """Stop speaking and discard all text. No more audio of it comes; its rows are free at the next step."""
        self._cutter.clear()
        self._waiting.clear()
        if self._work is not None:
            self._work.cancel()
            self._interrupted.add(self._work)
            self._work.add_done_callback(self._interrupted.discard)
            self._work = None

    async def close(self) -> None:
        """Interrupt, and wait until all rows are free."""
        self.interrupt()
        if self._interrupted:
            await asyncio.wait(self._interrupted)

    @property
    def speaking(self) -> bool:
        """Whether text is being spoken."""
        return self._work is not None and not self._work.done()

    async def join(self) -> None:
        """Return when all waiting text was spoken."""
        while self._work is not None and self.speaking:
            await asyncio.wait([self._work])

    def _take(self, sentences: Sequence[str | None]) -> None:
        self._waiting.extend(sentences)
        if self._waiting and (self._work is None or self._work.done()):
            speaking = ExitStack()
            accepted = speaking.enter_context(self._service.admission.conversation())
            self._work = asyncio.create_task(self._speak(accepted))
            self._work.add_done_callback(lambda _: speaking.close())  # also where it is cancelled before it runs

    async def _speak(self, accepted: bool) -> None:
        try:
            while self._waiting:
                await self._speak_next(self._waiting.popleft(), accepted)
        except ConnectionError:
            self._waiting.clear()  # the connection is gone; its reader notices as well

    async def _speak_next(self, sentence: str | None, accepted: bool) -> None:
        if sentence is None:
            await self._listener.done()
            return
        try:
            await self._say(sentence, accepted)
        except ConnectionError:
            raise
        except Exception as error:
            await self._listener.failed(error)

    async def _say(self, sentence: str, accepted: bool) -> None:
        index, self._index = self._index, self._index + 1
        begun = False
        async with self._service.stream(self._make_job(sentence), accepted=accepted) as live:
            async for piece in live:
                if not begun:
                    begun = True
                    await self._listener.sentence(index, sentence, live)
                await self._listener.audio(piece)
        await self._listener.sentence_end(index, live)


class Session(Listener):
    """One connection: it handles messages, and is the listener of its conversations, which come one after the other."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._conversation: Conversation | None = None

    async def handle(self, message: Any) -> None:
        """Handle a message. An invalid one gets an error, and the connection stays open."""
        try:
            await self.read(message)
        except UnimoeError as error:
            await self.failed(error)

    async def read(self, message: Any) -> None:
        """Do what a message asks for. Raises UnimoeError."""

    async def begin(self, make_job: Callable[[str], Job], abbreviations: tuple[str, ...]) -> Conversation:
        """Start a new conversation and interrupt one that is still speaking."""
        await self.close()
        self._conversation = Conversation(self._service, make_job, self, abbreviations)
        return self._conversation

    @property
    def speaking(self) -> bool:
        """Whether text of the present conversation is being spoken."""
        return self._conversation is not None and self._conversation.speaking

    async def close(self) -> None:
        """Interrupt the conversation, if there is one."""
        if self._conversation is not None:
            await self._conversation.close()
