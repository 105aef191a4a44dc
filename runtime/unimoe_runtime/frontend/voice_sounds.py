"""What the front end asks of a bundle's pronunciations and durations, whichever of the two kinds they are.

The first kind has a lexicon with rules and a table of mean durations (`lexicon`, `durations`); the second one has
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
        """What is listed."""
        ...

    def pronounce(self, word: str) -> Phonemes:
        """Phonemes of a word by itself; never empty where it has a letter."""
        ...

    def phrase_words(self, words: Sequence[str], given: Mapping[int, Phonemes] | None = None) -> list[Phonemes]:
        """Phonemes of each word of a phrase. `given`: those of some words, by their place."""
        ...

    def with_words(self, words: Mapping[str, Phonemes]) -> Self:
        """The same with other pronunciations of some words."""
        ...


class Durations(Protocol):
    """How long phonemes last, in seconds."""

    def word_durations(self, voice: str, words: Sequence[Phonemes]) -> list[float]:
        """Of each phoneme of an utterance. A pause is a word of its own."""
        ...

    def typical(self, voice: str) -> Mapping[str, float]:
        """Of each phoneme about, whatever stands beside it."""
        ...
