"""The interface of a bundle's pronunciations and durations, common to both kinds.

The first kind has a lexicon with rules and a table of mean durations (`lexicon`, `durations`); the second has
stress, marks as pauses, and a network for durations (`pronunciation`, `duration_predictor`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

Phonemes = tuple[str, ...]


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
