"""Chunks of audio: their sizes, and the conversion of frames to samples.

K codebooks · L samples
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.audio.wav import to_int16
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend.prepared import WordTime

FADE_S = 0.01


@dataclass(frozen=True, kw_only=True)
class ChunkSchedule:
    """Frames of each chunk, the last size repeated.

    Small chunks come early, and each costs one run of the codec. Making a chunk should take no longer than the
    audio before it lasts, otherwise playback stops in between.
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
    """Samples pcm_L (float32, mono) of the frames first_frame … first_frame + num_frames - 1.

    `words`: the words that begin in the chunk, with their expected times in the whole audio. Where a sentence ends
    earlier than expected, its last word does too: `AudioStream.words` then has that end.
    """

    pcm_L: NDArray[np.float32]
    first_frame: int
    num_frames: int
    words: tuple[WordTime, ...] = ()

    def pcm16(self) -> bytes:
        """The samples as 16-bit little-endian PCM, as `write_audio` rounds them."""
        return to_int16(self.pcm_L).tobytes()


def faded(chunk: Chunk, sample_rate_hz: int) -> Chunk:
    """The chunk with its end faded out, for audio that is cut off: a sudden step to zero would click.

    The fade takes at most one frame, which the last chunk of any schedule has.
    """
    if not chunk.num_frames:
        return chunk
    length = min(round(FADE_S * sample_rate_hz), len(chunk.pcm_L) // chunk.num_frames)
    if not length:
        return chunk
    pcm_L = chunk.pcm_L.copy()
    pcm_L[-length:] *= np.linspace(1, 0, length + 1, dtype=np.float32)[1:]
    return replace(chunk, pcm_L=pcm_L)


class ChunkMaker:
    """Makes chunks of frames. `wanted`: frames that the next chunk still needs. `codec_s`: seconds in the codec;
    `last_s`: of these, those of the last chunk."""

    def __init__(self, codec: BundleCodec, schedule: ChunkSchedule) -> None:
        self._decoder = codec.stream()
        self._hop_samples = codec.hop_samples
        self._sizes = schedule.sizes()
        # The codec keeps its lookahead frames from the first chunk on, so only the first chunk waits for them.
        self.wanted = max(next(self._sizes), codec.min_first_frames) + codec.lookahead_frames
        self.codec_s = self.last_s = 0.0
        self._next_frame = 0

    def take(self, frames: Sequence[Sequence[int]]) -> None:
        """Take the frames of the next chunk; `wanted` then refers to the chunk after it."""
        if frames:
            self._decoder.take(np.array(frames, np.int64).T)
        self.wanted = next(self._sizes)

    def chunk(self) -> Chunk:
        """The samples that no later frame can change."""
        return self._made(self._decoder.certain)

    def finish(self) -> Chunk:
        """The remaining samples, including those of frames that the codec kept; may be empty."""
        return self._made(self._decoder.finish)

    def _made(self, decode: Callable[[], NDArray[np.float32]]) -> Chunk:
        began = time.perf_counter()
        pcm_L = decode()
        self.last_s = time.perf_counter() - began
        self.codec_s += self.last_s
        first, num_frames = self._next_frame, len(pcm_L) // self._hop_samples
        self._next_frame += num_frames
        return Chunk(pcm_L=pcm_L, first_frame=first, num_frames=num_frames)
