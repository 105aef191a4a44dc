"""A front end's results: prompts with the times of their words, and recordings and clips in the model's form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.vision.tower import VideoFeatures, VisionConfig

_SHORTEST, _LONGEST = 0.7, 1.4


@dataclass(frozen=True, kw_only=True)
class PhonemeTime:
    """A phoneme with its start and end in seconds."""

    phoneme: str
    start_s: float
    end_s: float

    def later(self, by_s: float) -> PhonemeTime:
        """The same, `by_s` seconds later."""
        return replace(self, start_s=self.start_s + by_s, end_s=self.end_s + by_s)


@dataclass(frozen=True, kw_only=True)
class WordTime:
    """A spoken word with its start and end in seconds, and its phonemes."""

    word: str
    start_s: float
    end_s: float
    phonemes: tuple[PhonemeTime, ...] = ()

    def later(self, by_s: float) -> WordTime:
        """The same, `by_s` seconds later."""
        return replace(
            self,
            start_s=self.start_s + by_s,
            end_s=self.end_s + by_s,
            phonemes=tuple(phoneme.later(by_s) for phoneme in self.phonemes),
        )

    def until(self, end_s: float) -> WordTime:
        """The same, cut off at `end_s`, which is after its start."""
        if self.end_s <= end_s:
            return self
        kept = (phoneme for phoneme in self.phonemes if phoneme.start_s < end_s)
        return replace(self, end_s=end_s, phonemes=tuple(replace(one, end_s=min(one.end_s, end_s)) for one in kept))


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedPrompt:
    """A prompt, and the facts about its result that are known in advance.

    `expected_frames` is the approximate number of the audio's codec frames; None where unknown. `caption` shows how the
    prompt was understood. `silence_before_s`, `silence_after_s`: silence that the text asks for before and after this
    prompt's audio. `slack_frames`: the least allowance of frames beyond the expected number, because a short text may
    take twice as long. `warnings`: lines about omitted parts of the text up to here. `words`: the expected times of
    each word, from this prompt's own start; the model receives these times.
    """

    prompt: Prompt
    expected_frames: int | None
    caption: str
    slack_frames: int = 0
    silence_before_s: float = 0.0
    silence_after_s: float = 0.0
    warnings: tuple[str, ...] = ()
    words: tuple[WordTime, ...] = ()

    def limit(self, sampling: SamplingConfig, max_delay: int) -> SamplingConfig:
        """`sampling` with `min_steps` and `max_steps` around the expected length, where it is known."""
        if self.expected_frames is None:
            return sampling
        return replace(
            sampling,
            min_steps=round(_SHORTEST * self.expected_frames),
            max_steps=max(round(_LONGEST * self.expected_frames), self.expected_frames + self.slack_frames)
            + max_delay
            + 1,
        )


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recording of speech: an audio file and its words."""

    path: Path
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class VoicePrompt:
    """A recording in the model's form: `codec_rows_RK` int64, delayed (R rows, K codebooks), and its words."""

    codec_rows_RK: NDArray[np.int64]
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoPrompt:
    """A clip in the model's form, and the vision tower that encoded it."""

    features: VideoFeatures
    config: VisionConfig
