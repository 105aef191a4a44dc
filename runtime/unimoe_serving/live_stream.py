"""A synthesis in the event loop: threads decode and encode its chunks, one ahead of the chunk being sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from concurrent.futures import Executor
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Self

from unimoe_runtime import AudioStream, Outcome, SynthesisRequest, Synthesizer
from unimoe_serving.encoders import AudioFormat, open_encoder
from unimoe_serving.routing_record import RoutingRecord, RoutingSteps
from unimoe_tools.profiling.playback import Playback, play


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Bytes of the audio format and their duration. `routing`: the steps since the previous piece, if watched."""

    data: bytes
    audio_s: float
    routing: RoutingSteps | None = None


class LiveStream:
    """The pieces of one synthesis, as an asynchronous iterator.

    `arrived`: the request's time by `time.perf_counter`. `aclose` cancels the rest and returns when the rows are free.
    `outcome` is None until decoding has begun.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        request: SynthesisRequest,
        audio: AudioFormat,
        executor: Executor,
        *,
        arrived: float,
        watch_routing: bool = False,
    ) -> None:
        self._arrived = arrived
        self._ready: list[tuple[float, float]] = []
        self.source_rate_hz = synthesizer.sample_rate_hz
        self.rate_hz = audio.rate_hz(self.source_rate_hz)
        self._synthesizer, self._request, self._audio, self._executor = synthesizer, request, audio, executor
        self._record = RoutingRecord(synthesizer.bundle.model.num_layers) if watch_routing else None
        self._stream: AudioStream | None = None
        self._cancelled = self._begun = False
        self._pieces = self._make()
        self._pending: asyncio.Future[Piece | None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        piece = await asyncio.shield(self._pending or self._ask())
        if piece is None:
            raise StopAsyncIteration
        # The next piece is prepared while this one is sent; the first is sent before that, while the CPU is free.
        self._pending = self._ask() if self._begun else None
        self._begun = True
        return piece

    @property
    def outcome(self) -> Outcome | None:
        """The figures of the synthesis so far."""
        return None if self._stream is None else self._stream.outcome

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens of the prompts that were read so far."""
        return 0 if self._stream is None else self._stream.prompt_tokens

    @property
    def playback(self) -> Playback | None:
        """Simulated playback of the chunks so far; None before the first."""
        return play(self._ready)

    async def aclose(self) -> None:
        """Cancel at the next step, and wait until the rows are free."""
        self._cancelled = True
        if self._stream is not None:
            self._stream.cancel()
        if self._pending is not None:
            with suppress(Exception):
                await self._pending
        await asyncio.get_running_loop().run_in_executor(self._executor, self._pieces.close)

    def _ask(self) -> asyncio.Future[Piece | None]:
        self._pending = asyncio.get_running_loop().run_in_executor(self._executor, next, self._pieces, None)
        return self._pending

    def _make(self) -> Generator[Piece, None, None]:
        """Pieces, made in the thread that asks for the next one."""
        with closing(open_encoder(self._audio, self.source_rate_hz)) as encoder:
            with self._synthesizer.stream(self._request, routing=self._record, ahead=True) as stream:
                self._stream = stream
                if self._cancelled:
                    stream.cancel()
                for chunk in stream:
                    audio_s = len(chunk.pcm_L) / self.source_rate_hz
                    self._ready.append((1e3 * (time.perf_counter() - self._arrived), 1e3 * audio_s))
                    yield Piece(data=encoder.encode(chunk.pcm_L), audio_s=audio_s, routing=self._taken())
            yield Piece(data=encoder.finish(), audio_s=0.0, routing=self._taken())

    def _taken(self) -> RoutingSteps | None:
        return None if self._record is None else self._record.take()
