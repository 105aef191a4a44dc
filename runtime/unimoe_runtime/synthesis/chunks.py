"""Chunks of audio: how large they are, and the making of their samples out of frames.

K codebooks · L samples
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.audio.wav import to_int16
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ChunkSchedule:
    """Frames of each chunk, the last size repeated.

    Small chunks come early and cost one run of the codec each; a chunk should be no longer than what was given out
    before it lasts, or playing stops in between.
    """

    frames: tuple[int, ...] = (2, 4, 8, 16, 32)

    def __post_init__(self) -> None:
        if not self.frames or min(self.frames) < 1:
            raise ConfigError(f"chunk frames are {self.frames}; give at least one size of 1 or more")

    def sizes(self) -> Iterator[int]:
        """Frames of each chunk, without end."""
        return chain(self.frames, repeat(self.frames[-1]))


WHOLE = ChunkSchedule(frames=(sys.maxsize,))
"""Everything in one chunk, at the end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """Samples pcm_L (float32, mono) of the frames first_frame … first_frame + num_frames - 1."""

    pcm_L: NDArray[np.float32]
    first_frame: int
    num_frames: int

    def pcm16(self) -> bytes:
        """The samples as 16-bit little-endian PCM, as `write_audio` rounds them."""
        return to_int16(self.pcm_L).tobytes()


class ChunkMaker:
    """Frames in, chunks out. `wanted`: how many frames have to wait for the next chunk to be made.

    With `overlap` all chunks but the first are decoded by a thread. `codec_s`: what the codec took so far.
    """

    def __init__(self, codec: BundleCodec, schedule: ChunkSchedule, *, overlap: bool) -> None:
        self._decoder = codec.stream()
        self._hop_samples = codec.hop_samples
        self._sizes = schedule.sizes()
        # Frames that a codec looks ahead stay in its hands from the first chunk on, so they are waited for once.
        self.wanted = max(next(self._sizes), codec.min_first_frames) + codec.lookahead_frames
        self.codec_s = 0.0
        self._waiting: list[NDArray[np.int64]] = []
        self._next_frame = 0
        self._overlap = overlap
        self._worker: ThreadPoolExecutor | None = None
        self._in_work: Future[Chunk] | None = None

    def take(self, frame_K: NDArray[np.int64]) -> None:
        self._waiting.append(frame_K)

    def ready(self) -> Iterator[Chunk]:
        """Hand out what the codec has finished; give it the next chunk's frames where they are all there."""
        if len(self._waiting) < self.wanted:
            if self._in_work is not None and self._in_work.done():
                yield from self._worked()
            return
        yield from self._worked()
        frames, self._waiting, self.wanted = self._waiting, [], next(self._sizes)
        if self._next_frame == 0 or not self._overlap:
            yield self._decode(frames, last=False)
        else:
            self._worker = self._worker or ThreadPoolExecutor(1, "codec")
            self._in_work = self._worker.submit(self._decode, frames, last=False)

    def finish(self) -> Iterator[Chunk]:
        """What is left, the codec's own remainder included."""
        yield from self._worked()
        rest = self._decode(self._waiting, last=True)
        if rest.num_frames:
            yield rest

    def close(self) -> None:
        if self._worker is not None:
            self._worker.shutdown(cancel_futures=True)

    def _worked(self) -> Iterator[Chunk]:
        """The chunk that the thread is at, waited for."""
        in_work, self._in_work = self._in_work, None
        if in_work is not None:
            yield in_work.result()

    def _decode(self, frames: list[NDArray[np.int64]], *, last: bool) -> Chunk:
        began = time.perf_counter()
        if frames:
            self._decoder.take(np.stack(frames, axis=1))
        pcm_L = self._decoder.finish() if last else self._decoder.certain()
        self.codec_s += time.perf_counter() - began
        first, num_frames = self._next_frame, len(pcm_L) // self._hop_samples
        self._next_frame += num_frames
        return Chunk(pcm_L=pcm_L, first_frame=first, num_frames=num_frames)
