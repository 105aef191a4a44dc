"""What a front end hands to the generation loop, and the surface that every kind of front end has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.frontend.options import NO_OPTIONS, SpeechOptions
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.vision.tower import VideoFeatures, VisionConfig

_SHORTEST, _LONGEST = 0.7, 1.4


@dataclass(frozen=True, kw_only=True)
class WordTime:
    """A word as it is spoken, and when, in seconds."""

    word: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedPrompt:
    """A prompt, and what is known of its result beforehand.

    `expected_frames` is the number of codec frames that the audio will have, about; None where unknown.
    `caption` is the prompt as it was understood, to be shown. `silence_after_s`: silence that the text asks for behind
    this prompt's audio. `slack_frames`: how many frames more than expected there may be at least, since a short text
    may well take twice as long. `warnings`: lines about what was left out of the text up to here.
    `words`: when each word is expected to be spoken, from this prompt's own start; the model is told these times.
    """

    prompt: Prompt
    expected_frames: int | None
    caption: str
    slack_frames: int = 0
    silence_after_s: float = 0.0
    warnings: tuple[str, ...] = ()
    words: tuple[WordTime, ...] = ()

    def limit(self, sampling: SamplingConfig, max_delay: int) -> SamplingConfig:
        """`sampling` with `min_steps` and `max_steps` set around the expected length, where that is known."""
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
    """Someone speaking: an audio file and what is said in it."""

    path: Path
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class VoicePrompt:
    """A recording as the model hears it: `codec_rows_RK` int64, delayed (R rows, K codebooks), and its words."""

    codec_rows_RK: NDArray[np.int64]
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoPrompt:
    """A clip as the model sees it, and the tower that saw it."""

    features: VideoFeatures
    config: VisionConfig


class FrontEnd(Protocol):
    """Turns a task's text into a prompt."""

    @property
    def tasks(self) -> tuple[str, ...]: ...

    @property
    def voices(self) -> tuple[str, ...]: ...

    @property
    def instruments(self) -> tuple[str, ...]: ...

    @property
    def max_voice_s(self) -> float:
        """The longest recording that a voice may be cloned from; 0 where the model does not clone."""
        ...

    @property
    def takes_video(self) -> bool: ...

    def recording(self, voice: str) -> Recording | None:
        """The recording behind a voice of this bundle; None where the model knows its voices by heart."""
        ...

    def prepare(
        self,
        task: str,
        text: str,
        voice: str = "",
        options: SpeechOptions = NO_OPTIONS,
        *,
        voice_prompt: VoicePrompt | None = None,
        video: VideoPrompt | None = None,
    ) -> Iterator[PreparedPrompt]:
        """The prompts of a text in turn, each made when it is asked for: several where the text is too long for one.

        Raises PromptError, one line, for whatever the model cannot say or play.
        """
        ...

    def build_prompt(
        self,
        task: str,
        text: str,
        voice: str = "",
        *,
        voice_prompt: VoicePrompt | None = None,
        video: VideoPrompt | None = None,
    ) -> PreparedPrompt:
        """Raises PromptError, one line, for whatever the model cannot say or play."""
        ...
