"""A stream in the event loop: the library's chunks, one chunk ahead, stopped at any moment."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serving.running import LONG
from unimoe_runtime import PromptError, SynthesisRequest, Synthesizer
from unimoe_runtime.audio.wav import to_int16
from unimoe_serving.encoders import AudioFormat
from unimoe_serving.live_stream import LiveStream

PCM = AudioFormat(name="pcm", sample_rate_hz=16000)


def open_live(library: Synthesizer, executor: ThreadPoolExecutor, text: str, *, watch: bool = False) -> LiveStream:
    request = SynthesisRequest(text=text, voice="ann")
    return LiveStream(library, request, PCM, executor, arrived=time.perf_counter(), watch_routing=watch)


def test_gives_what_the_library_gives(library: Synthesizer) -> None:
    async def run() -> None:
        with ThreadPoolExecutor(2) as executor:
            live = open_live(library, executor, "Hello.", watch=True)
            pieces = [piece async for piece in live]
            await live.aclose()
        expected = library.synthesize(SynthesisRequest(text="Hello.", voice="ann"))
        assert b"".join(piece.data for piece in pieces) == to_int16(expected.pcm_L).tobytes()
        assert sum(len(piece.routing.masks) for piece in pieces if piece.routing) == expected.routing.steps
        assert live.outcome is not None and live.outcome.num_samples == len(expected.pcm_L)
        assert live.prompt_tokens > 0 and live.playback is not None and live.playback.first_ms > 0

    asyncio.run(run())


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_closed_early(library: Synthesizer, pieces: int) -> None:
    async def run() -> None:
        with ThreadPoolExecutor(2) as executor:
            live = open_live(library, executor, LONG)
            for _ in range(pieces):
                await anext(live)
            await live.aclose()
            await live.aclose()
        assert pieces == 0 or (live.outcome is not None and not live.outcome.ended)

    asyncio.run(run())


def test_errors_come_out(library: Synthesizer) -> None:
    async def run() -> None:
        with ThreadPoolExecutor(2) as executor:
            live = open_live(library, executor, "?!")
            with pytest.raises(PromptError, match="nothing to say"):
                await anext(live)
            await live.aclose()
            assert live.outcome is None

    asyncio.run(run())
