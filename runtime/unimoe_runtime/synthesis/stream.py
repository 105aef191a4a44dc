"""Audio as it comes: frames leave the decode loop in chunks, and the codec makes samples of them beside the next steps.

A frame is complete with its last delayed codebook. A chunk is decoded as soon as its frames are there (for a codec
that looks ahead, with as many frames more), by a thread of its own while the next steps run; the first one at once,
so that nothing stands between its last frame and its samples. One chunk is in the codec's hands at most, and no step
is made unless a chunk is asked for: a slow reader slows the decode loop down instead of filling memory.

A long text comes in parts. Their frames follow one another in one stream of the codec, without a seam.

T frames · K codebooks · L samples
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import BackendError, ClosedError, PromptError
from unimoe_runtime.frontend import PreparedPrompt
from unimoe_runtime.model.generation import generate
from unimoe_runtime.synthesis.chunks import Chunk, ChunkMaker, ChunkSchedule
from unimoe_runtime.synthesis.language_model import BundleModel, RoutingStatistics
from unimoe_runtime.synthesis.request import SynthesisRequest

Progress = Callable[[int, int], None]
"""Called after each step with the steps done and the steps expected."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A prompt, and how it is to be decoded."""

    prepared: PreparedPrompt
    sampling: SamplingConfig


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How audio came about.

    `codes_TK`: the frames of the model. `caption`: the request as the front end understood it. `ended` is False where
    the audio was cut off before the model ended it: by the step limit, by the time limit (`timed_out`), or by the
    caller. `warnings`: lines about what was left out of the text. `first_audio_s`: from the request to the first chunk.
    `codec_s` may have passed beside `decode_s`; `compute_s` is the whole from the prompt's pass to the last sample,
    without the time that the reader took.
    """

    sample_rate_hz: int
    num_samples: int
    codes_TK: NDArray[np.int64]
    caption: str
    warnings: tuple[str, ...]
    ended: bool
    timed_out: bool
    first_audio_s: float
    prefill_s: float
    decode_s: float
    codec_s: float
    compute_s: float
    routing: RoutingStatistics

    @property
    def audio_s(self) -> float:
        return self.num_samples / self.sample_rate_hz

    @property
    def rtf(self) -> float:
        """Real-time factor: compute seconds per second of audio; below 1 is faster than real time."""
        return self.compute_s / self.audio_s if self.audio_s else float("inf")

    def figures(self) -> dict[str, Any]:
        """The figures as one flat record, for printing and for JSON."""
        return {
            "caption": self.caption,
            "warnings": list(self.warnings),
            "audio_s": self.audio_s,
            "rtf": self.rtf,
            "first_audio_s": self.first_audio_s,
            "prefill_s": self.prefill_s,
            "decode_s": self.decode_s,
            "codec_s": self.codec_s,
            "steps": self.routing.steps,
            "experts_per_step": self.routing.experts_per_step,
            "null_share": self.routing.null_share,
            "ended": self.ended,
            "timed_out": self.timed_out,
        }


class AudioStream:
    """The chunks of one synthesis: an iterator that makes them as they are asked for.

        with synthesizer.stream(SynthesisRequest(text="Hello.")) as stream:
            for chunk in stream:
                play(chunk.pcm_L)

    `cancel` ends it at its next step: what was made so far is all there is. `close`, or the end of `with`, cancels it
    and frees its memory. Both are safe from any thread; a thread that waits for a chunk then gets the end. Reading
    from a closed stream raises ClosedError, unless it had come to its end. `outcome` tells at any time how it went so
    far. Made by `Synthesizer.stream`.
    """

    def __init__(
        self,
        *,
        model: BundleModel,
        codec: BundleCodec,
        parts: Iterable[Part],
        most_frames: int | None,
        request: SynthesisRequest,
        overlap: bool,
        requested: float,
        progress: Progress | None,
    ) -> None:
        self.sample_rate_hz, self._hop_samples = codec.sample_rate_hz, codec.hop_samples
        self._captions: list[str] = []
        self.warnings: tuple[str, ...] = ()
        """Lines about what was left out of the text, as far as it has been read."""
        self.prompt_tokens = 0
        """Tokens of the prompts that have been read, without the unconditional rows'."""
        coming = iter(parts)
        first = next(coming)
        self._read(first)
        config = model.config
        self._max_delay = max_delay = max(config.delay_pattern)
        self._most_frames = most_frames
        self._expected_steps = _expected_steps(first, max_delay)
        self._num_codebooks = config.num_codebooks
        self._requested, self._timeout_s, self._progress = requested, request.timeout_s, progress
        self._cancelled = threading.Event()
        self._reading = threading.RLock()
        self._closed, self._at_end, self._running = "", False, False
        self._frames: list[NDArray[np.int64]] = []
        self._num_frames, self._num_samples, self._cut, self._timed_out = -1, 0, False, False
        self._started = self._finished = time.perf_counter()
        self._first_audio_s = float("inf")
        self._prefill_s = self._decode_s = self._reader_s = 0.0
        self._past = self._statistics = RoutingStatistics()
        self._maker = ChunkMaker(codec, request.schedule or ChunkSchedule(), overlap=overlap)
        self.first_chunk_steps = max_delay + self._maker.wanted
        """Decode steps before the first chunk: the delay, its frames, and what the codec looks ahead."""
        self._chunks = self._run(model, first, coming, config, request.seed)

    @property
    def caption(self) -> str:
        """The text as it is spoken, as far as it has been read."""
        return ". ".join(self._captions)

    def _read(self, part: Part) -> None:
        self._captions.append(part.prepared.caption)
        self.warnings = part.prepared.warnings or self.warnings
        self.prompt_tokens += int(part.prepared.prompt.mask_BT[-1].sum())

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        with self._reading:
            if self._closed and not self._at_end:
                raise ClosedError(f"the stream is closed: {self._closed}")
            self._running = True
            try:
                return next(self._chunks)
            except BaseException:
                self._at_end = True
                raise
            finally:
                self._running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and free the memory. Chunks that were not taken are lost."""
        self.abort("it was closed by its reader")

    def cancel(self) -> None:
        """End the stream at its next step, from any thread."""
        self._cancelled.set()

    def abort(self, why: str) -> None:
        """`close`, and what a later reader is told."""
        self._cancelled.set()
        with self._reading:
            self._closed = self._closed or why
            if not self._running:  # running: closed from a callback of its own, it ends at this step
                self._chunks.close()

    @property
    def outcome(self) -> Outcome:
        """How it went so far; final once the stream has ended or was closed."""
        all_given = self._num_samples == self._num_frames * self._hop_samples
        return Outcome(
            sample_rate_hz=self.sample_rate_hz,
            num_samples=self._num_samples,
            codes_TK=np.array(self._frames, dtype=np.int64).reshape(-1, self._num_codebooks),
            caption=self.caption,
            warnings=self.warnings,
            ended=all_given and not self._cut,
            timed_out=self._timed_out,
            first_audio_s=self._first_audio_s,
            prefill_s=self._prefill_s,
            decode_s=self._decode_s,
            codec_s=self._maker.codec_s,
            compute_s=self._finished - self._started - self._reader_s,
            routing=self._past + self._statistics,
        )

    def _run(
        self, model: BundleModel, first: Part, coming: Iterator[Part], config: ModelConfig, seed: int
    ) -> Generator[Chunk, None, None]:
        maker = self._maker
        try:
            self._started = time.perf_counter()
            part: Part | None = first
            while part is not None:
                following = next(coming, None)
                yield from self._decode(model, part, config, seed, last=following is None)
                if self._cancelled.is_set():
                    return
                if self._timed_out or self._room() == 0:
                    break
                part = following
                if part is not None:
                    self._expected_steps += _expected_steps(part, self._max_delay)
                    self._read(part)
            if not self._frames:
                raise self._silence()
            yield from self._given(maker.finish())
        finally:
            maker.close()
            model.close()

    def _decode(
        self, model: BundleModel, part: Part, config: ModelConfig, seed: int, *, last: bool
    ) -> Generator[Chunk, None, None]:
        """One part's frames, up to its end, the caller's limit, the time limit or a cancellation."""
        sampling, room = part.sampling, self._room()
        if room is not None:
            max_steps = min(sampling.max_steps, room + self._max_delay + 1)
            sampling = replace(sampling, min_steps=min(sampling.min_steps, max_steps), max_steps=max_steps)
        most_frames = sampling.max_steps - self._max_delay - 1
        frames_before = len(self._frames)
        self._past, self._statistics = self._past + self._statistics, RoutingStatistics()
        began = time.perf_counter()
        for step in generate(model, part.prepared.prompt, config, sampling, seed=seed):
            # The first step cannot be told apart from the prefill from outside of the loop; it counts as prefill.
            self._finished = now = time.perf_counter()
            if step.index == 0:
                self._prefill_s += now - began
            else:
                self._decode_s += now - began
            self._statistics = model.statistics
            num_frames = int(step.num_frames_U[0])
            if num_frames >= 0:
                self._cut |= num_frames == most_frames
                self._num_frames = frames_before + num_frames if last else -1
            if step.has_frame_U[0]:
                self._frames.append(step.frame_UK[0])
                self._maker.take(step.frame_UK[0])
            if self._progress is not None:
                self._progress(self._past.steps + step.index + 1, self._expected_steps)
            if self._cancelled.is_set():
                return
            if self._timeout_s is not None and now - self._requested > self._timeout_s:
                self._timed_out = True
                return
            yield from self._given(self._maker.ready())
            began = time.perf_counter()

    def _room(self) -> int | None:
        """Frames that the caller's limit leaves; None where there is none."""
        return None if self._most_frames is None else max(0, self._most_frames - len(self._frames))

    def _given(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The chunks as they are handed to the reader, whose own time is taken."""
        for chunk in chunks:
            self._finished = now = time.perf_counter()
            self._first_audio_s = min(self._first_audio_s, now - self._requested)
            self._num_samples += len(chunk.pcm_L)
            yield chunk
            self._reader_s += time.perf_counter() - now

    def _silence(self) -> BackendError | PromptError:
        if self._timed_out:
            return BackendError(f"there was no audio within {self._timeout_s:g} s: give it more time")
        return PromptError("the model ended before its first frame; try another seed or a longer text")


def _expected_steps(part: Part, max_delay: int) -> int:
    expected = part.prepared.expected_frames
    return part.sampling.max_steps if expected is None else min(part.sampling.max_steps, expected + max_delay)
