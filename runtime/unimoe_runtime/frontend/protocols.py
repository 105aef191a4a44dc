"""The interfaces of a front end, and of a voice's pronunciations and durations.

Two front ends implement `FrontEnd`: `timeline` and `published`. Pronunciations and durations come in two kinds: a
lexicon with rules and a table of mean durations (`lexicon`, `durations`); or stress, marks as pauses, and a network for
durations (`pronunciation`, `duration_predictor`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol, Self

from unimoe_runtime.frontend.options import NO_OPTIONS, SpeechOptions
from unimoe_runtime.frontend.prepared import PreparedPrompt, Recording, VideoPrompt, VoicePrompt
from unimoe_runtime.frontend.pronunciation import Phonemes

TASKS: Final = ("speech", "music")


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
        """The longest recording for cloning a voice, in seconds; 0 where the model does not clone."""
        ...

    @property
    def takes_video(self) -> bool: ...

    def load(self) -> None:
        """Make now what the first texts would otherwise wait for."""
        ...

    def recording(self, voice: str) -> Recording | None:
        """The recording of a voice of this bundle; None where the voices are part of the model's weights."""
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
        """The prompts of a text in order, made lazily: several where the text is too long for one.

        Raises PromptError, one line, for input that the model cannot speak or play.
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
        """Raises PromptError, one line, for input that the model cannot speak or play."""
        ...


class Pronunciations(Protocol):
    """Phonemes of words. Words are in lower case; a single capital letter is the letter's name."""

    @property
    def words(self) -> Mapping[str, Phonemes]:
        """The listed words."""
        ...

    def pronounce(self, word: str) -> Phonemes:
        """Phonemes of a word alone; never empty where it has a letter."""
        ...

    def phrase_words(self, words: Sequence[str], given: Mapping[int, Phonemes] | None = None) -> list[Phonemes]:
        """Phonemes of each word of a phrase. `given`: those of some words, by their place."""
        ...

    def with_words(self, words: Mapping[str, Phonemes]) -> Self:
        """The same with other pronunciations of some words."""
        ...


class Durations(Protocol):
    """Durations of phonemes, in seconds."""

    def word_durations(self, voice: str, words: Sequence[Phonemes]) -> list[float]:
        """Seconds of each phoneme of an utterance. A pause is a separate word."""
        ...

    def typical(self, voice: str) -> Mapping[str, float]:
        """Approximate seconds of each phoneme, without its context."""
        ...
