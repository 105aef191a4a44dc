"""A synthesis in the event loop: a thread makes and encodes its chunks, a little ahead of the chunk being sent."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
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

    One thread of `executor` makes and encodes them all, and hands each to the event loop. It is at most two pieces
    ahead of the piece being sent; the first is sent before the next is made, while the CPU is free. `arrived`: the
    request's time by `time.perf_counter`. `aclose` cancels the rest and returns when the rows are free. `outcome` has
    the figures once the thread is done; None before, and if decoding never began.
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
        self._made: list[tuple[float, float]] = []
        self.source_rate_hz = synthesizer.sample_rate_hz
        self.rate_hz = audio.rate_hz(self.source_rate_hz)
        self.outcome: Outcome | None = None
        self._synthesizer, self._request, self._audio, self._executor = synthesizer, request, audio, executor
        self._record = RoutingRecord(synthesizer.bundle.model.num_layers) if watch_routing else None
        self._stream: AudioStream | None = None
        self._cancelled = self._begun = False
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Piece] = deque()
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._room: SimpleQueue[None] = SimpleQueue()
        """An entry for each piece that the thread may go beyond."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        if self._ended is None:
            self._ended = self._loop.create_future()
            self._executor.submit(self._work)
        elif not self._begun:
            self._begun = True
            self._room.put(None)
            self._room.put(None)
        while not self._ready and not self._ended.done():
            self._waiter = self._loop.create_future()
            await self._waiter
        if not self._ready:
            raise self._error or StopAsyncIteration
        if self._begun:
            self._room.put(None)
        return self._ready.popleft()

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens of the prompts that were read so far."""
        return 0 if self._stream is None else self._stream.prompt_tokens

    @property
    def playback(self) -> Playback | None:
        """Simulated playback of the chunks so far; None before the first."""
        return play(self._made)

    async def aclose(self) -> None:
        """Cancel at the next step, and wait until the rows are free."""
        self._cancelled = True
        if self._stream is not None:
            self._stream.cancel()
        self._room.put(None)
        if self._ended is not None:
            await asyncio.wait([self._ended])

    def _work(self) -> None:
        """Make all pieces, in the thread."""
        error: BaseException | None = None
        try:
            with closing(self._make()) as pieces:
                for piece in pieces:
                    self._loop.call_soon_threadsafe(self._take, piece)
                    self._room.get()
                    if self._cancelled:
                        break
        except BaseException as raised:
            error = raised
        self._loop.call_soon_threadsafe(self._end, error)

    def _make(self) -> Generator[Piece, None, None]:
        with closing(open_encoder(self._audio, self.source_rate_hz)) as encoder:
            with self._synthesizer.stream(self._request, routing=self._record, ahead=True) as stream:
                self._stream = stream
                try:
                    if self._cancelled:
                        stream.cancel()
                    for chunk in stream:
                        audio_s = len(chunk.pcm_L) / self.source_rate_hz
                        self._made.append((1e3 * (time.perf_counter() - self._arrived), 1e3 * audio_s))
                        yield Piece(data=encoder.encode(chunk.pcm_L), audio_s=audio_s, routing=self._routing())
                finally:
                    stream.close()
                    self.outcome = stream.outcome
            rest = encoder.finish()
            if rest or self._record is not None:
                yield Piece(data=rest, audio_s=0.0, routing=self._routing())

    def _routing(self) -> RoutingSteps | None:
        return None if self._record is None else self._record.take()

    def _take(self, piece: Piece) -> None:
        self._ready.append(piece)
        self._wake()

    def _end(self, error: BaseException | None) -> None:
        assert self._ended is not None
        self._error = error
        self._ended.set_result(None)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
