"""Wyoming with its own client, and input that is not Wyoming."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)  # fmt: skip

from tests.serving.running import LONG
from unimoe_runtime import SynthesisRequest, Synthesizer
from unimoe_runtime.audio.wav import to_int16
from unimoe_runtime.errors import BackendError
from unimoe_serving.config import BundleSource, ServerConfig, ServerLimits
from unimoe_serving.service import Service
from unimoe_serving.wyoming_server import WyomingServer


def with_server(bundle: Path, use: Callable[[WyomingServer, Service], Awaitable[None]], **limits: float) -> None:
    """Run `use` against a running server."""

    async def run() -> None:
        bundles = (BundleSource(name="tiny", path=bundle),)
        service = Service(ServerConfig(bundles=bundles, limits=ServerLimits(**limits)))  # type: ignore[arg-type]
        await service.start_loading()
        server = WyomingServer(service, "tcp://127.0.0.1:0")
        await server.start()
        try:
            async with asyncio.timeout(60):
                await use(server, service)
                await service.admission.wait_idle()
        finally:
            await server.stop()
            await service.close()

    asyncio.run(run())


async def hear(client: AsyncTcpClient, last: str) -> list[Event]:
    """Events up to the first one of a type."""
    events: list[Event] = []
    while not events or events[-1].type != last:
        event = await client.read_event()
        assert event is not None
        events.append(event)
    return events


def samples_of(events: list[Event]) -> np.ndarray:
    chunks = [AudioChunk.from_event(event) for event in events if AudioChunk.is_type(event.type)]
    assert {(chunk.rate, chunk.width, chunk.channels) for chunk in chunks} == {(16000, 2, 1)}
    return np.frombuffer(b"".join(chunk.audio for chunk in chunks), "<i2")


def test_home_assistant_describes_and_speaks(tiny_bundle: Path, library: Synthesizer) -> None:
    async def use(server: WyomingServer, service: Service) -> None:
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            await client.write_event(Describe().event())
            info = Info.from_event((await hear(client, "info"))[-1])
            program = info.tts[0]
            assert program.supports_synthesize_streaming
            assert [voice.name for voice in program.voices] == ["tiny/ann", "tiny/bob"]
            assert all(voice.languages == ["en"] for voice in program.voices)
            for voice in (program.voices[1].name, "bob"):
                request = Synthesize(text="Hello.", voice=SynthesizeVoice(name=voice))
                await client.write_event(request.event())
                events = await hear(client, "audio-stop")
                assert AudioStart.is_type(events[0].type) and AudioStop.is_type(events[-1].type)
                expected = to_int16(library.synthesize(SynthesisRequest(text="Hello.", voice="bob")).pcm_L)
                np.testing.assert_array_equal(samples_of(events), expected)

    with_server(tiny_bundle, use)


def test_an_address_in_use_is_one_line(tiny_bundle: Path) -> None:
    async def use(server: WyomingServer, service: Service) -> None:
        with pytest.raises(BackendError, match=f"cannot listen on 127.0.0.1:{server.port} for Wyoming"):
            await WyomingServer(service, f"tcp://127.0.0.1:{server.port}").start()

    with_server(tiny_bundle, use)


def test_text_as_it_is_written(tiny_bundle: Path, library: Synthesizer) -> None:
    """The first sentence sounds before the text ends; the complete text that follows for old servers is not spoken."""

    async def use(server: WyomingServer, service: Service) -> None:
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            await client.write_event(SynthesizeStart(voice=SynthesizeVoice(name="ann")).event())
            for piece in ("Hello", ". ", "I do"):
                await client.write_event(SynthesizeChunk(text=piece).event())
            first = await hear(client, "audio-chunk")
            await client.write_event(SynthesizeChunk(text=" hope.").event())
            await client.write_event(Synthesize(text="Hello. I do hope.").event())
            await client.write_event(SynthesizeStop().event())
            events = [*first, *await hear(client, "synthesize-stopped")]
            assert SynthesizeStopped.is_type(events[-1].type) and AudioStop.is_type(events[-2].type)
            spoken = [SynthesisRequest(text=text, voice="ann") for text in ("Hello.", "I do hope.")]
            expected = np.concatenate([to_int16(library.synthesize(request).pcm_L) for request in spoken])
            np.testing.assert_array_equal(samples_of(events), expected)

    with_server(tiny_bundle, use)


def test_errors_are_told_and_the_connection_stays(tiny_bundle: Path) -> None:
    async def use(server: WyomingServer, service: Service) -> None:
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            await client.write_event(Synthesize(text="Hello.", voice=SynthesizeVoice(name="../../x.wav")).event())
            assert "there is no" in Error.from_event((await hear(client, "error"))[-1]).text
            await hear(client, "audio-stop")  # Home Assistant waits for it
            await client.write_event(Synthesize(text=" \n").event())
            assert "is empty" in Error.from_event((await hear(client, "error"))[-1]).text
            await hear(client, "audio-stop")
            await client.write_event(SynthesizeStart(voice=SynthesizeVoice(name="tiny/x")).event())
            await client.write_event(SynthesizeChunk(text="Hello.").event())
            await client.write_event(Synthesize(text="Hello.").event())
            await client.write_event(SynthesizeStop().event())
            events = await hear(client, "synthesize-stopped")
            assert [event.type for event in events] == ["error", "synthesize-stopped"]
            await client.write_event(Event(type="unheard-of"))
            await client.write_event(Ping(text="there?").event())
            assert Pong.from_event((await hear(client, "pong"))[-1]).text == "there?"

    with_server(tiny_bundle, use)


def test_leaving_frees_the_rows(tiny_bundle: Path) -> None:
    async def use(server: WyomingServer, service: Service) -> None:
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            await client.write_event(Synthesize(text=LONG, voice=SynthesizeVoice(name="ann")).event())
            await hear(client, "audio-chunk")
        await service.admission.wait_idle()

    with_server(tiny_bundle, use)


NOISE = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"[1, 2]\n",
    b'{"type": "synthesize"}\n',
    b'{"type": "synthesize", "data": {"text": 5}}\n',
    b'{"type": "ping", "payload_length": 99999999999}\n',
    b"\xff\xfe\n",
    b"x" * 3_000_000,
    b"[" * 200_000 + b"\n",
    b'{"type": ' + b'{"a": ' * 100_000 + b"\n",
)


def test_noise_ends_its_connection_alone(tiny_bundle: Path) -> None:
    async def use(server: WyomingServer, service: Service) -> None:
        for noise in NOISE:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(noise)
            with suppress(ConnectionError):
                await reader.read()
            writer.close()
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            await client.write_event(Ping(text="").event())
            await hear(client, "pong")

    with_server(tiny_bundle, use)


def test_silent_connections_are_closed_and_many_refused(tiny_bundle: Path) -> None:
    async def use(server: WyomingServer, service: Service) -> None:
        opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(9)]
        for beginning, (_, writer) in zip(
            (b"", b"{", b'{"type": "ping", "data_length": 9}\n{') * 3, opened, strict=True
        ):
            writer.write(beginning)
        for reader, writer in opened:
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            for _ in range(2):  # after an event it may be silent for longer
                await client.write_event(Ping(text="").event())
                await hear(client, "pong")
                await asyncio.sleep(0.5)

    with_server(tiny_bundle, use, head_s=0.3, max_connections=4)
