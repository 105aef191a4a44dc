"""Synthesis: text in, with a voice or a video to go by, audio out, whole or as a stream, through a bundle's graphs.

L samples · K codebooks · T frames
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Self
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.protocol import Backend, CachedPositions
from unimoe_runtime.bundle.engine_verification import engine_warning
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BundleError, ClosedError, PromptError, UnimoeError
from unimoe_runtime.expert_cache.cache import ExpertCacheStats
from unimoe_runtime.frontend import PreparedPrompt, SpeechOptions, VideoPrompt, VoicePrompt, open_frontend
from unimoe_runtime.model.delay_pattern import delay_codes
from unimoe_runtime.synthesis.chunks import WHOLE, Chunk, ChunkSchedule
from unimoe_runtime.synthesis.decoding import Decoding, DecodingLimits, Part, Progress
from unimoe_runtime.synthesis.language_model import BundleModel, RoutingListener
from unimoe_runtime.synthesis.lru_cache import LRUCache
from unimoe_runtime.synthesis.outcome import Outcome
from unimoe_runtime.synthesis.preload import Preload, always_used
from unimoe_runtime.synthesis.request import Limits, SynthesisRequest
from unimoe_runtime.synthesis.scheduler import StepScheduler
from unimoe_runtime.synthesis.step_statistics import StepStatistics
from unimoe_runtime.synthesis.stream import AudioStream
from unimoe_runtime.vision.tower import BundleVision
from unimoe_runtime.vision.video import MAX_FRAMES, RATE_HZ, Video, read_video

# Room for voices and templates that were read before, as keys and values, and for voices' codes.
_PREFIX_BYTES = 128 << 20
_VOICE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Synthesis(Outcome):
    """Audio and how it came about: `pcm_L` float32 mono."""

    pcm_L: NDArray[np.float32]


class Synthesizer:
    """Speaks and plays from one bundle.

        with Synthesizer.open("bundle") as synthesizer:
            result = synthesizer.synthesize(SynthesisRequest(text="Hello.", voice="slt", seed=1))

    Graphs stay loaded between calls. Any number of streams and syntheses may go on at once, in any threads: each has
    its own state, and all share weights and the engine's threads. Any thread may close it.
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
        self._backend = backend
        self._codec = BundleCodec(bundle.codec, backend.run)
        self._prefixes = LRUCache[CachedPositions](_PREFIX_BYTES)
        self._voices = LRUCache[NDArray[np.int64]](_VOICE_BYTES)
        self._preload: Preload | None = None
        self._scheduler = StepScheduler(backend)
        self._lock = Lock()
        self._closed = False
        self._streams: WeakSet[AudioStream] = WeakSet()
        self.overlap = len(os.sched_getaffinity(0)) > 1
        """Whether the next steps of a stream run while its codec decodes a chunk."""

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        backend: str = "onnxruntime",
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        warm: bool = False,
        memory_budget_bytes: int | None = None,
        target: str | None = None,
    ) -> Self:
        """Open a bundle with a backend; `target` names the engines that tensorrt is to run.

        What every request runs is loaded in the background, experts at their first use; `warm` loads all of it before
        this returns. `memory_budget_bytes` is what loaded experts may take (`residency`): the same audio, slower.
        """
        bundle = open_bundle(path)
        engine = open_backend(
            backend,
            bundle,
            threads=threads,
            providers=providers,
            memory_budget_bytes=memory_budget_bytes,
            target=target,
        )
        graphs = always_used(bundle)
        if warm:
            engine.load(graphs)
            engine.load()
            return cls(bundle, engine)
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
        """End all streams at their next step, then free graphs and memory. Safe from any thread, and twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            streams = list(self._streams)
        for stream in streams:
            stream.abort("its synthesizer was closed")
        if self._preload is not None:
            self._preload.close()
        self._scheduler.close(at_end=self._backend.close)

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("the synthesizer is closed: open the bundle again")

    @property
    def sample_rate_hz(self) -> int:
        """Of everything that it synthesizes."""
        return self._codec.sample_rate_hz

    @property
    def residency(self) -> ExpertCacheStats | None:
        """How the memory budget fared so far; None without one."""
        return self._backend.residency()

    @property
    def step_statistics(self) -> StepStatistics:
        """What was decoded so far, for all streams together."""
        return self._scheduler.statistics

    @property
    def engine_warning(self) -> str | None:
        """Why its engines are not to be trusted on this machine yet, one line; None where nothing speaks against it."""
        engine_set = getattr(self._backend, "engine_set", None)
        return None if engine_set is None else engine_warning(engine_set)

    def synthesize(self, request: SynthesisRequest, *, progress: Progress | None = None) -> Synthesis:
        """The whole audio at once; errors are those of `stream`. A schedule in the request is not used."""
        with self.stream(replace(request, schedule=WHOLE), progress=progress) as stream:
            pcm_L = np.concatenate([chunk.pcm_L for chunk in stream])
        return Synthesis(pcm_L=pcm_L, **vars(stream.outcome))

    def stream(
        self, request: SynthesisRequest, *, progress: Progress | None = None, routing: RoutingListener | None = None
    ) -> AudioStream:
        """The audio of one request, chunk by chunk. `routing` is told what the router picks at each decode step.

        A text that is too long for one prompt is spoken piece by piece, where the front end can cut it
        (`FrontEnd.prepare`), each piece prepared before the one in front of it is spoken. `request.limits` hold for the
        whole, except `min_steps`, which holds for each piece.

        Raises PromptError where the request cannot be spoken or played, AudioError where the voice's file cannot be
        read, VideoError for frames that the vision tower cannot take, ClosedError after `close`. While it is read
        from, the stream raises BundleError where a file of the bundle is damaged, PromptError where the model has
        nothing to say, BackendError where not one frame was complete in time, ClosedError after `close`.
        """
        requested = time.perf_counter()
        self._require_open()
        config = self.bundle.model
        sampling = request.sampling or self.sampling(request.task)
        limits = request.limits or Limits()
        prompts = self._prompts(request)
        first = list(islice(prompts, 2))  # the second one tells whether there are several
        max_delay = max(config.delay_pattern)
        most_steps = self._most_steps(limits, max_delay)
        if len(first) > 1:  # the caller's steps are then those of all pieces together
            limits = replace(limits, max_steps=None)
        parts = (
            Part(
                prepared=prepared,
                sampling=self._limited(prepared, sampling, limits, most_steps),
                silence_TK=self._silence(prepared.silence_after_s),
            )
            for prepared in chain(first, prompts)
        )
        decoding = Decoding(
            BundleModel(self._backend, routing=routing, prefixes=self._prefixes),
            chain([next(parts)], parts),
            seed=request.seed,
            limits=DecodingLimits(
                requested=requested,
                most_frames=None if most_steps is None else most_steps - max_delay - 1,
                timeout_s=request.timeout_s,
            ),
            progress=progress,
        )
        schedule = request.schedule or ChunkSchedule()
        stream = AudioStream(self._scheduler, decoding, self._codec, schedule, overlap=self.overlap)
        with self._lock:
            self._require_open()
            self._streams.add(stream)
        return stream

    async def astream(self, request: SynthesisRequest, *, progress: Progress | None = None) -> AsyncIterator[Chunk]:
        """`stream` for asyncio: the event loop is never blocked. Leaving the loop early closes the stream.

        async for chunk in synthesizer.astream(request):
            await socket.send(chunk.pcm16())
        """
        import asyncio  # here, because it takes longer to import than most of the runtime

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
        """What the model reads before it speaks or plays: of a long text the first piece. Raises what `stream` does."""
        return next(self._prompts(request))

    def _prompts(self, request: SynthesisRequest) -> Iterator[PreparedPrompt]:
        """The prompts of a request in turn, each made when it is asked for."""
        self._require_open()
        return self.frontend.prepare(
            request.task,
            request.text,
            request.voice,
            SpeechOptions(speed=request.speed, lexicon=request.lexicon or {}),
            voice_prompt=self._voice_prompt(request.voice, request.voice_text) if request.task == "speech" else None,
            video=None if request.video is None else self._video_prompt(request.video),
        )

    def read_video(self, path: Path | str, *, rate_hz: float = RATE_HZ, max_frames: int = MAX_FRAMES) -> Video:
        """A file's frames in the size that the vision tower takes, `rate_hz` a second, `max_frames` at most.

        Raises VideoError where the file cannot be read, PromptError where the bundle has no vision tower.
        """
        return read_video(path, factor=self._vision().config.factor, rate_hz=rate_hz, max_frames=max_frames)

    def sampling(self, task: str) -> SamplingConfig:
        """The bundle's own sampling for a task. Raises PromptError where it has no such task."""
        try:
            return self.bundle.sampling[task]
        except KeyError:
            known = ", ".join(sorted(self.bundle.sampling))
            raise PromptError(f"this bundle has no task {task!r}; it knows {known}") from None

    def _voice_prompt(self, voice: str, voice_text: str) -> VoicePrompt | None:
        """The recording that a voice is cloned from, through the codec; None where the model knows the voice."""
        path: Path | None = Path(voice)
        if "/" not in voice and not _is_audio_file(Path(voice)):
            recording = self.frontend.recording(voice)
            if voice_text:
                raise PromptError("a voice's text goes with a recording: give an audio file as the voice")
            path, voice_text = (recording.path, recording.text) if recording else (None, "")
        if path is None:
            return None
        from unimoe_runtime.audio.files import read_voice

        max_s = self.frontend.max_voice_s
        pcm_L = read_voice(path, self._codec.sample_rate_hz, max_s=max_s or None)
        if not max_s:
            names = ", ".join(self.frontend.voices)
            raise PromptError(f"{voice}: this bundle does not clone voices; choose one of its own: {names}")
        if not voice_text.strip():
            raise PromptError(f"{voice}: to clone this voice the model needs the words of the recording (--voice-text)")
        key = blake2b(pcm_L.tobytes(), digest_size=16).digest()
        codes_TK = self._voices.get(key)
        if codes_TK is None:
            codes_TK = self._codec.encode(pcm_L).T
            self._voices.put(key, codes_TK, codes_TK.nbytes)
        return VoicePrompt(codec_rows_RK=delay_codes(codes_TK, self.bundle.model), text=voice_text)

    def _video_prompt(self, video: Video) -> VideoPrompt:
        vision = self._vision()
        return VideoPrompt(features=vision.embed(video), config=vision.config)

    def _vision(self) -> BundleVision:
        if not self.frontend.takes_video or not self.bundle.manifest.get("vision"):
            raise PromptError("this bundle has no vision tower: it makes music from a text alone")
        return BundleVision(self.bundle.manifest["vision"], self._backend.run)

    def _silence(self, seconds: float) -> NDArray[np.int64] | None:
        """Frames of silence; None where none is asked for."""
        frames = round(seconds * self._codec.sample_rate_hz / self._codec.hop_samples)
        return self._codec.encode(np.zeros(frames * self._codec.hop_samples, np.float32)).T if frames else None

    def _most_steps(self, limits: Limits, max_delay: int) -> int | None:
        """Decode steps that the caller allows; None where that is left to the bundle."""
        allowed = [] if limits.max_steps is None else [limits.max_steps]
        if limits.max_s is not None:
            frames = int(limits.max_s * self._codec.sample_rate_hz / self._codec.hop_samples)
            allowed.append(max(frames, 1) + max_delay + 1)
        return min(allowed, default=None)

    def _limited(
        self, prepared: PreparedPrompt, sampling: SamplingConfig, limits: Limits, most_steps: int | None
    ) -> SamplingConfig:
        """`sampling` with the limits of the expected length and then the caller's."""
        config = self.bundle.model
        sampling = prepared.limit(sampling, max_delay=max(config.delay_pattern))
        max_steps = sampling.max_steps if limits.max_steps is None else limits.max_steps
        if most_steps is not None:
            max_steps = min(max_steps, most_steps)
        last_position = int(prepared.prompt.first_position_B.max()) + max_steps
        if last_position > config.max_positions:
            raise PromptError(
                f"the prompt and {max_steps} steps take {last_position} positions; the model has "
                f"{config.max_positions}: give a shorter prompt or fewer steps"
            )
        min_steps = min(sampling.min_steps, max_steps) if limits.min_steps is None else limits.min_steps
        return replace(sampling, min_steps=min_steps, max_steps=max_steps)


def _is_audio_file(path: Path) -> bool:
    """Whether its suffix says so."""
    if not path.suffix:
        return False
    from unimoe_runtime.audio.files import (
        READABLE,
    )  # with what reads audio, which takes longer to import than a request that needs none

    return path.suffix.lower() in READABLE
