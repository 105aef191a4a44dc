"""The Wyoming protocol, so that Home Assistant can use the server as a voice.

It answers `describe` and `synthesize`, and streaming text: `synthesize-start`, `-chunk` and `-stop`. The protocol has
no API keys, so the address that it listens on decides who may call.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import Any

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, async_read_event, async_write_event
from wyoming.info import Attribution, Describe, Info, TtsProgram, TtsVoice
from wyoming.ping import Ping, Pong
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped

from unimoe_runtime.errors import BackendError, UnimoeError
from unimoe_runtime.files.text import reason_of
from unimoe_serving.config import wyoming_address
from unimoe_serving.connections import BACKLOG, connection_limit
from unimoe_serving.conversation import Conversation, Session
from unimoe_serving.encoders import AudioFormat
from unimoe_serving.errors import RequestError
from unimoe_serving.fields import Fields
from unimoe_serving.live_stream import LiveStream, Piece
from unimoe_serving.models import ServedModel
from unimoe_serving.service import Job, Service, refusal

logger = logging.getLogger("unimoe.serving")

_MAX_EVENT_BYTES = 1 << 20
_ATTRIBUTION = Attribution(name="UniMoE on the edge", url="")  # the project has no public page yet


class WyomingServer:
    """Listens at a URI such as tcp://127.0.0.1:10200; port 0 takes a free one, which `port` gives."""

    def __init__(self, service: Service, uri: str) -> None:
        self._service = service
        self._host, self.port = wyoming_address(uri)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._most = connection_limit(service.limits.max_connections)

    async def start(self) -> None:
        """Listen from now on. Raises BackendError if the address cannot be bound."""
        try:
            self._server = await asyncio.start_server(
                self._connected, self._host, self.port, limit=_MAX_EVENT_BYTES, backlog=BACKLOG
            )
        except (OSError, UnicodeError, TypeError) as error:  # the latter two for a name that no host can have
            raise BackendError(
                f"cannot listen on {self._host}:{self.port} for Wyoming ({reason_of(error)}): choose another port"
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]
        logger.info("Wyoming at tcp://%s:%d", self._host, self.port)

    async def stop(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        if len(self._connections) >= self._most:
            writer.close()
            return
        self._connections.add(connection)
        session = _Session(self._service, writer)
        try:
            while (event := await self._next_event(_Bounded(reader), session)) is not None:
                await session.handle(event)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the connection is gone, or the server ends
        except _NOT_WYOMING as error:
            logger.info("a connection is closed that sent something else than Wyoming: %r", error)
        finally:
            self._connections.discard(connection)
            await session.close()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _next_event(self, reader: _Bounded, session: _Session) -> Event | None:
        """The next event; None at the end, and after a long silence on both sides."""
        limits = self._service.limits
        while True:
            try:
                async with asyncio.timeout(limits.stream_s if session.asked else limits.head_s):
                    return await async_read_event(reader)  # type: ignore[arg-type]
            except TimeoutError:
                if not session.speaking:
                    return None


_NOT_WYOMING = (RecursionError, ValueError, KeyError, TypeError, AttributeError)


class _Bounded:
    """A reader that limits the size of an event."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def readline(self) -> bytes:
        return await self._reader.readline()

    async def readexactly(self, count: int) -> bytes:
        if count > _MAX_EVENT_BYTES:
            raise ValueError("the event is too large")
        return await self._reader.readexactly(count)


class _Session(Session):
    """Answers one connection's events. Unknown ones are ignored, as the protocol requires."""

    def __init__(self, service: Service, writer: asyncio.StreamWriter) -> None:
        super().__init__(service)
        self._writer = writer
        self._streaming = self._begun = False
        self.asked = False

    async def sentence(self, index: int, text: str, live: LiveStream) -> None:
        if not self._begun:
            self._begun = True
            await self._write(AudioStart(rate=live.rate_hz, width=2, channels=1))
        self._rate_hz = live.rate_hz

    async def audio(self, piece: Piece) -> None:
        if piece.data:
            await self._write(AudioChunk(rate=self._rate_hz, width=2, channels=1, audio=piece.data))

    async def sentence_end(self, index: int, live: LiveStream) -> None:
        """Does nothing: the audio continues with the next sentence."""

    async def done(self) -> None:
        if self._begun or not self._streaming:  # a client waits for it, even where nothing could be spoken
            await self._write(AudioStop())
        self._begun = False
        if self._streaming:
            self._streaming = False
            await self._write(SynthesizeStopped())

    async def failed(self, error: Exception) -> None:
        refused = refusal(error, self._service.metrics)
        await self._write(Error(text=str(refused), code=refused.code))

    async def read(self, event: Event) -> None:
        self.asked = True
        if Describe.is_type(event.type):
            await self._write(describe(self._service))
        elif Ping.is_type(event.type):
            await self._write(Pong(text=Ping.from_event(event).text))
        elif SynthesizeStart.is_type(event.type):
            start = SynthesizeStart.from_event(event)
            self._streaming = True
            await self._open(start.voice)
        elif SynthesizeChunk.is_type(event.type) and self._streaming and self._conversation is not None:
            self._conversation.add(SynthesizeChunk.from_event(event).text)
        elif SynthesizeStop.is_type(event.type) and self._streaming:
            if self._conversation is None:
                await self.done()
            else:
                self._conversation.flush()
        elif Synthesize.is_type(event.type) and not self._streaming:  # in a streaming session it repeats the whole text
            await self._speak(Synthesize.from_event(event))

    async def _speak(self, synthesize: Synthesize) -> None:
        """Speak a whole text, or tell that it cannot be spoken."""
        try:
            conversation = await self._open(synthesize.voice)
            if not synthesize.text.strip():
                raise RequestError("the text is empty: give something to say", code="invalid_value")
            conversation.add(synthesize.text)
            conversation.flush()
        except UnimoeError as error:
            await self.failed(error)
            await self.done()

    async def _open(self, voice: Any) -> Conversation:
        await self.close()  # also where the voice is refused
        self._conversation, self._begun = None, False
        service = self._service
        name = (voice.speaker or voice.name or "") if voice is not None else ""
        model, voice_name = find_voice(service, name)
        request = service.read_request(Fields({"voice": voice_name}), model, "speech", text="…")
        audio = AudioFormat(name="pcm", sample_rate_hz=model.synthesizer.sample_rate_hz)

        def make_job(sentence: str) -> Job:
            return Job(model=model, request=replace(request, text=sentence), audio=audio)

        return await self.begin(make_job, model.abbreviations)

    async def _write(self, event: Any) -> None:
        """Write, or raise ConnectionError if the client is gone or takes nothing for `send_s`."""
        try:
            async with asyncio.timeout(self._service.limits.send_s):
                await async_write_event(event.event(), self._writer)
        except (TimeoutError, RuntimeError, OSError):
            raise ConnectionError("the connection is gone") from None


def find_voice(service: Service, name: str) -> tuple[ServedModel, str]:
    """The bundle and the voice behind a name that `describe` gave: MODEL/VOICE, or a voice of any bundle."""
    model_name, slash, voice = name.partition("/")  # a stored voice's name may have slashes, a bundle's has none
    if slash:
        return service.models.find(model_name), voice
    voice = name
    for model in service.models:
        own = {known.name for known in model.voices() if known.task == "speech"}
        if voice in own or service.voices.find(voice, model.name) is not None:
            return model, voice
    if voice:
        raise RequestError(f"there is no voice {voice[:100]!r}", code="voice_not_found")
    return service.models.find(""), voice


def describe(service: Service) -> Info:
    """One TTS program for each bundle that speaks, with its voices."""
    programs = []
    for model in service.models:
        if "speech" not in model.synthesizer.frontend.tasks:
            continue
        known = [(voice.name, voice.description) for voice in model.voices() if voice.task == "speech"]
        known += [(voice.name, voice.description) for voice in service.voices if voice.model == model.name]
        voices = [
            TtsVoice(
                name=f"{model.name}/{name}", description=description or name, attribution=_ATTRIBUTION,
                installed=True, version=None, languages=[model.language],
            )
            for name, description in known
        ]  # fmt: skip
        programs.append(
            TtsProgram(
                name=f"unimoe-{model.name}", description=f"UniMoE, bundle {model.name}", attribution=_ATTRIBUTION,
                installed=True, version=None, voices=voices, supports_synthesize_streaming=True,
            )
        )  # fmt: skip
    return Info(tts=programs)
