"""Synthesis: from text, with a voice or a video, to audio, whole or as a stream, through a bundle's graphs.

L samples · K codebooks · T frames
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Self, Unpack
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.factory import BackendOptions, open_backend
from unimoe_runtime.backends.protocol import Backend, CachedPositions
from unimoe_runtime.bundle.engine_verification import engine_warning
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BundleError, ClosedError, UnimoeError
from unimoe_runtime.expert_cache.statistics import ExpertCacheStats
from unimoe_runtime.frontend import PreparedPrompt, open_frontend
from unimoe_runtime.hardware.system import available_cores
from unimoe_runtime.synthesis.chunks import WHOLE, Chunk, ChunkSchedule
from unimoe_runtime.synthesis.decoding import Decoding, DecodingLimits, Progress
from unimoe_runtime.synthesis.lanes import Lanes
from unimoe_runtime.synthesis.language_model import BundleModel, Embedder, RoutingListener
from unimoe_runtime.synthesis.lru_cache import LRUCache
from unimoe_runtime.synthesis.outcome import Outcome
from unimoe_runtime.synthesis.preload import Preload, always_used
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.request_reader import RequestReader
from unimoe_runtime.synthesis.step_statistics import StepStatistics
from unimoe_runtime.synthesis.stream import AudioStream
from unimoe_runtime.vision.video import MAX_FRAMES, RATE_HZ, Video

# Bytes for keys and values of voices and templates that were read before.
_PREFIX_BYTES = 128 << 20


@dataclass(frozen=True, kw_only=True)
class Synthesis(Outcome):
    """Audio, `pcm_L` float32 mono, with its figures."""

    pcm_L: NDArray[np.float32]


class Synthesizer:
    """Speaks and plays from one bundle.

        with Synthesizer.open("bundle") as synthesizer:
            result = synthesizer.synthesize(SynthesisRequest(text="Hello.", voice="slt", seed=1))

    Graphs stay loaded between calls. Any number of streams and syntheses may run at once, in any threads: each has its
    own state, and all share weights and the engine's threads. Any thread may close it.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        frontend_dir = bundle.checked_frontend()
        if frontend_dir is None or bundle.codec is None:
            part = "front end" if frontend_dir is None else "codec"
            raise BundleError(
                f"{bundle.path}: has no {part}, so it cannot synthesize; it can be verified and inspected"
            )
        self.bundle = bundle
        self.frontend = open_frontend(frontend_dir)
        self.backend = backend
        self.codec = BundleCodec(bundle.codec, backend.run)
        self._prefixes = LRUCache[CachedPositions](_PREFIX_BYTES)
        self._requests = RequestReader(bundle, self.frontend, self.codec, backend.run)
        self._preload: Preload | None = None
        self._embedder = Embedder(backend)
        self._scheduler = Lanes(backend, self._embedder)
        self._lock = Lock()
        self._closed = False
        self._streams: WeakSet[AudioStream] = WeakSet()
        self.overlap = available_cores() > 1
        """Whether the next steps of a stream run while its codec decodes a chunk."""

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        backend: str = "onnxruntime",
        warm: bool = False,
        **options: Unpack[BackendOptions],
    ) -> Self:
        """Open a bundle with a backend.

        The graphs that every request runs load in the background, experts at their first use; `warm` loads all of them,
        and the front end's tables, before this returns. `options`, all optional: `threads`, `providers`,
        `memory_budget_bytes` (the limit for loaded experts: the same audio, slower; see `residency`) and `target` (the
        engine set for tensorrt).
        """
        bundle = open_bundle(path)
        engine = open_backend(backend, bundle, lanes=True, **options)
        graphs = always_used(bundle)
        if warm:
            engine.load(graphs)
            engine.load()
            opened = cls(bundle, engine)
            opened.frontend.load()
            return opened
        preload = Preload(engine, graphs)
        try:
            opened = cls(bundle, engine)
        except UnimoeError:
            preload.close()
            raise
        opened._preload = preload
        return opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all streams at their next step, then free graphs and memory. Safe from any thread; may be repeated."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            streams = list(self._streams)
        for stream in streams:
            stream.abort("its synthesizer was closed")
        if self._preload is not None:
            self._preload.close()
        self._scheduler.close(at_end=self.backend.close)

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("the synthesizer is closed: open the bundle again")

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of the audio."""
        return self.codec.sample_rate_hz

    @property
    def residency(self) -> ExpertCacheStats | None:
        """Statistics of the expert cache so far; None without a memory budget."""
        return self.backend.residency()

    @property
    def step_statistics(self) -> StepStatistics:
        """Counts of the decoding so far, for all streams together."""
        return self._scheduler.statistics

    @property
    def engine_warning(self) -> str | None:
        """Why its engines are not verified on this machine yet, as one line; None if there is no reason to warn."""
        engine_set = getattr(self.backend, "engine_set", None)
        return None if engine_set is None else engine_warning(engine_set)

    def synthesize(self, request: SynthesisRequest, *, progress: Progress | None = None) -> Synthesis:
        """The whole audio at once. Raises the errors of `stream`. A schedule in the request is not used."""
        with self.stream(replace(request, schedule=WHOLE), progress=progress) as stream:
            pcm_L = np.concatenate([chunk.pcm_L for chunk in stream])
        return Synthesis(pcm_L=pcm_L, **vars(stream.outcome))

    def stream(
        self,
        request: SynthesisRequest,
        *,
        progress: Progress | None = None,
        routing: RoutingListener | None = None,
        ahead: bool = False,
    ) -> AudioStream:
        """The audio of one request, chunk by chunk. `routing` receives what the router picks at each decode step.
        `ahead`: frames of the next chunk are made before it is asked for, for a reader that sends chunks on.

        A text that is too long for one prompt is spoken piece by piece, if the front end can cut it
        (`FrontEnd.prepare`). Each piece is prepared before the previous one is spoken. `request.limits` cover the whole
        text, except `min_steps`, which holds for each piece.

        Raises PromptError if the request cannot be spoken or played, AudioError if the voice's file cannot be read,
        VideoError for frames that the vision tower cannot take, ClosedError after `close`. While it is read, the stream
        raises BundleError if a file of the bundle is damaged, PromptError if the model gives no audio, BackendError if
        not a single frame was complete in time, ClosedError after `close`.
        """
        requested = time.perf_counter()
        self._require_open()
        parts, most_frames = self._requests.parts(request)
        decoding = Decoding(
            BundleModel(self.backend, routing=routing, prefixes=self._prefixes, embedder=self._embedder),
            parts,
            seed=request.seed,
            limits=DecodingLimits(requested=requested, most_frames=most_frames, timeout_s=request.timeout_s),
            progress=progress,
        )
        schedule = request.schedule or ChunkSchedule()
        stream = AudioStream(self._scheduler, decoding, self.codec, schedule, overlap=self.overlap, ahead=ahead)
        with self._lock:
            self._require_open()
            self._streams.add(stream)
        return stream

    async def astream(self, request: SynthesisRequest, *, progress: Progress | None = None) -> AsyncIterator[Chunk]:
        """`stream` for asyncio: the event loop is never blocked. Leaving the loop early closes the stream.

        async for chunk in synthesizer.astream(request):
            await socket.send(chunk.pcm16())
        """
        import asyncio  # imported here, because it takes longer to import than most of the runtime

        loop, reader = asyncio.get_running_loop(), ThreadPoolExecutor(1, "astream")
        try:
            stream = await loop.run_in_executor(reader, partial(self.stream, request, progress=progress))
            try:
                while (chunk := await loop.run_in_executor(reader, next, stream, None)) is not None:
                    yield chunk
            finally:
                stream.cancel()
                reader.submit(stream.close)
        finally:
            reader.shutdown(wait=False)

    def prepare(self, request: SynthesisRequest) -> PreparedPrompt:
        """The prompt of a request; for a long text, that of the first piece. Raises the errors of `stream`."""
        self._require_open()
        return next(self._requests.prompts(request))

    def read_video(self, path: Path | str, *, rate_hz: float = RATE_HZ, max_frames: int = MAX_FRAMES) -> Video:
        """A file's frames in the size of the vision tower, `rate_hz` per second, at most `max_frames`.

        Raises VideoError if the file cannot be read, PromptError if the bundle has no vision tower.
        """
        self._require_open()
        return self._requests.read_video(path, rate_hz=rate_hz, max_frames=max_frames)

    def sampling(self, task: str) -> SamplingConfig:
        """The bundle's sampling for a task. Raises PromptError if it has no such task."""
        return self._requests.sampling(task)
