"""Streamed audio: the scheduler makes frames, and the reader's thread turns them into samples.

A frame is complete with its last delayed codebook. A chunk is decoded as soon as its frames are complete (for a codec
that looks ahead, its lookahead frames as well), while the next steps run, or between two steps of other streams
(`StepScheduler.decode`). During the first chunk no steps run, so that its samples come as early as possible. Steps are
made only when a chunk is requested, or together with those of other streams (or, with `ahead`, in any case), and at
most for one chunk ahead: a slow reader slows decoding down instead of filling memory.

A long text comes in parts. Their frames follow one another in one stream of the codec, without a seam.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Self

import numpy as np

from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.errors import BackendError, ClosedError, PromptError
from unimoe_runtime.frontend.prepared import WordTime
from unimoe_runtime.synthesis.chunks import Chunk, ChunkMaker, ChunkSchedule, faded
from unimoe_runtime.synthesis.decoding import Decoding
from unimoe_runtime.synthesis.lanes import Lanes
from unimoe_runtime.synthesis.outcome import Outcome


class AudioStream:
    """The chunks of one synthesis: an iterator that makes them on request.

        with synthesizer.stream(SynthesisRequest(text="Hello.")) as stream:
            for chunk in stream:
                play(chunk.pcm_L)

    `cancel` ends it at its next step with the audio made so far. `close`, or the end of `with`, cancels it and frees
    its memory. Both are safe from any thread; a thread that waits for a chunk then gets the end. Reading from a closed
    stream raises ClosedError, unless it had reached its end. `outcome` gives the figures so far at any time. Made by
    `Synthesizer.stream`.

    `overlap`: the next steps run while a chunk is decoded. `ahead`: they also run while the reader is busy with a chunk
    other than the first.
    """

    def __init__(
        self,
        scheduler: Lanes,
        decoding: Decoding,
        codec: BundleCodec,
        schedule: ChunkSchedule,
        *,
        overlap: bool,
        ahead: bool = False,
    ) -> None:
        self.sample_rate_hz, self._hop_samples = codec.sample_rate_hz, codec.hop_samples
        self._scheduler, self._decoding, self._overlap, self._ahead = scheduler, decoding, overlap, ahead
        self._num_codebooks = codec.num_codebooks
        self._reading = threading.RLock()
        self._closed, self._at_end = "", False
        self._num_samples = 0
        self._started = self._given = time.perf_counter()
        self._first_given: float | None = None
        self._reader_s = 0.0
        self._maker = ChunkMaker(codec, schedule)
        self.first_chunk_steps = decoding.max_delay + self._maker.wanted
        """Number of decode steps before the first chunk: the delay, its frames, and the codec's lookahead."""
        self._chunks = self._run()

    @property
    def caption(self) -> str:
        """The text as it is spoken, as far as it has been read."""
        return ". ".join(self._decoding.captions)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about parts of the text that were left out, as far as it has been read."""
        return self._decoding.warnings

    @property
    def words(self) -> tuple[WordTime, ...]:
        """When each word is spoken in the audio, as far as the text has been read; words after its end are left out."""
        return self._words_from(0.0, math.inf)

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens of the prompts that have been read, without unconditional rows."""
        return self._decoding.prompt_tokens

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        with self._reading:
            if self._closed and not self._at_end:
                raise ClosedError(f"the stream is closed: {self._closed}")
            try:
                return next(self._chunks)
            except BaseException:
                self._at_end = True
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop and free the memory. Chunks that were not read are lost."""
        self.abort("it was closed by its reader")

    def cancel(self) -> None:
        """End the stream at its next step, from any thread."""
        self._scheduler.cancel(self._decoding)

    def abort(self, why: str) -> None:
        """`close`, with the reason that later reads report."""
        self._closed = self._closed or why
        self.cancel()
        if self._scheduler.is_own_thread:  # called from a callback: the waiting reader's thread does the rest
            return
        with self._reading:
            self._chunks.close()
        self._scheduler.join(self._decoding)

    @property
    def outcome(self) -> Outcome:
        """The figures so far; final once the stream has ended or was closed."""
        decoding = self._decoding
        all_given = self._num_samples == decoding.num_frames * self._hop_samples
        first_given = float("inf") if self._first_given is None else self._first_given
        return Outcome(
            sample_rate_hz=self.sample_rate_hz,
            num_samples=self._num_samples,
            codes_TK=np.array(decoding.frames, dtype=np.int64).reshape(-1, self._num_codebooks),
            caption=self.caption,
            warnings=self.warnings,
            words=self.words,
            ended=all_given and not decoding.cut,
            timed_out=decoding.timed_out,
            first_audio_s=first_given - decoding.limits.requested,
            prefill_s=decoding.prefill_s,
            decode_s=decoding.decode_s,
            codec_s=self._maker.codec_s,
            compute_s=max(self._given, decoding.last_step) - self._started - self._reader_s,
            routing=decoding.routing,
        )

    def _run(self) -> Generator[Chunk, None, None]:
        scheduler, decoding, maker = self._scheduler, self._decoding, self._maker
        self._started = self._given = time.perf_counter()
        scheduler.add(decoding)
        taken = 0
        try:
            while True:
                wanted = taken + maker.wanted
                scheduler.ask(decoding, wanted, self._deadline())
                scheduler.wait(decoding, wanted)
                # The last frames go through `finish`, so that there are samples left to fade.
                if len(decoding.frames) < wanted or (decoding.over and len(decoding.frames) == wanted):
                    break
                frames, is_first = decoding.frames[taken:wanted], not taken
                taken = wanted
                maker.take(frames)
                following, deadline = taken + maker.wanted, self._deadline(len(frames))
                scheduler.ask(decoding, following, deadline, rides=is_first or not self._overlap)
                chunk = scheduler.decode(decoding, maker.chunk, maker.last_s)
                scheduler.ask(decoding, following, deadline, rides=is_first or not self._ahead)
                yield from self._give(chunk)
            if decoding.cancelled:
                return
            if not decoding.frames:
                raise self._no_audio()
            maker.take(decoding.frames[taken:])
            last = scheduler.decode(decoding, maker.finish, maker.last_s)
            yield from self._give(faded(last, self.sample_rate_hz) if decoding.cut or decoding.timed_out else last)
        finally:
            scheduler.cancel(decoding)

    def _deadline(self, frames_in_work: int = 0) -> float:
        """The time at which the next chunk's frames must be complete for uninterrupted playback."""
        frame_s = self._hop_samples / self.sample_rate_hz
        if self._first_given is None:
            frames = frames_in_work + min(self._maker.wanted, self._decoding.expected_steps)
            return self._decoding.limits.requested + frames * frame_s
        played_s = self._first_given + self._num_samples / self.sample_rate_hz + frames_in_work * frame_s
        return played_s - self._maker.last_s

    def _give(self, chunk: Chunk) -> Iterator[Chunk]:
        """Yield the chunk to the reader, and measure the reader's own time, as far as no step ran in it."""
        if not chunk.num_frames:
            return
        self._given = time.perf_counter()
        if self._first_given is None:
            self._first_given = self._given
        start_s = self._num_samples / self.sample_rate_hz
        self._num_samples += len(chunk.pcm_L)
        end_s = self._num_samples / self.sample_rate_hz
        yield replace(chunk, words=self._words_from(start_s, end_s))
        self._reader_s += max(0.0, time.perf_counter() - max(self._given, self._decoding.last_step))

    def _words_from(self, start_s: float, end_s: float) -> tuple[WordTime, ...]:
        """The words that begin from `start_s` on and before `end_s`, none beyond the audio of its part."""
        frame_s, decoding = self._hop_samples / self.sample_rate_hz, self._decoding
        over, parts = decoding.over, list(decoding.words)
        firsts = [first for first, _ in parts]
        ends = [*firsts[1:], len(decoding.frames) if over else sys.maxsize]
        return tuple(
            word.later(first * frame_s).until(end * frame_s)
            for (first, words), end in zip(parts, ends, strict=False)  # before the first part there are none
            for word in words
            if start_s <= word.start_s + first * frame_s < min(end_s, end * frame_s)
        )

    def _no_audio(self) -> BackendError | PromptError:
        if self._decoding.timed_out:
            timeout_s = self._decoding.limits.timeout_s
            return BackendError(f"there was no audio within {timeout_s:g} s: give it more time")
        return PromptError("the model ended before its first frame; try another seed or a longer text")
