"""English words to phonemes with stress.

Phonemes are ARPAbet in lower case. A vowel carries its stress as a digit: `ae1` primary, `ah2` secondary, `ah0` none.
A function word such as "the" is weak inside a phrase and strong at its end ("What are you looking for?").
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

Phonemes = tuple[str, ...]

VOWELS: Final = ("aa", "ae", "ah", "ao", "aw", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw")
CONSONANTS: Final = (
    "b", "ch", "d", "dh", "f", "g", "hh", "jh", "k", "l", "m", "n", "ng", "p", "r", "s", "sh", "t", "th", "v", "w",
    "y", "z", "zh",
)  # fmt: skip
PHONEMES: Final = (*CONSONANTS, *(f"{vowel}{stress}" for vowel in VOWELS for stress in "012"))
PAUSE: Final = "pau"
"""The phoneme of the silence before the first word."""
MARKS: Final = (",", ";", ":", ".", "!", "?")
"""Punctuation that ends a phrase. As a phoneme it stands for the pause that follows the phrase."""

WEAK_FORMS: Final[Mapping[str, Phonemes]] = {
    word: tuple(sounds.split())
    for word, sounds in {
        "a": "ah0", "an": "ah0 n", "the": "dh ah0", "the~": "dh iy0", "to": "t ah0", "to~": "t uw0", "of": "ah0 v",
        "in": "ih0 n", "on": "aa0 n", "at": "ae0 t", "by": "b ay0", "for": "f ao0 r", "from": "f r ah0 m",
        "with": "w ih0 dh", "as": "ae0 z", "and": "ah0 n d", "or": "ao0 r", "but": "b ah0 t", "if": "ih0 f",
        "is": "ih0 z", "am": "ae0 m", "are": "aa0 r", "was": "w ah0 z", "were": "w er0", "be": "b iy0",
        "been": "b ih0 n", "has": "hh ae0 z", "have": "hh ae0 v", "had": "hh ae0 d", "can": "k ae0 n",
        "could": "k uh0 d", "would": "w uh0 d", "should": "sh uh0 d", "will": "w ih0 l", "i": "ay0", "you": "y uw0",
        "he": "hh iy0", "she": "sh iy0", "it": "ih0 t", "we": "w iy0", "they": "dh ey0", "me": "m iy0",
        "him": "hh ih0 m", "her": "hh er0", "us": "ah0 s", "them": "dh eh0 m", "my": "m ay0", "your": "y ao0 r",
        "his": "hh ih0 z", "its": "ih0 t s", "our": "aw0 er0", "their": "dh eh0 r", "that": "dh ae0 t",
        "than": "dh ae0 n", "i'm": "ay0 m", "it's": "ih0 t s",
    }.items()
}  # fmt: skip
"""Function words inside a phrase. `word~` is the form before a vowel."""

_LETTER_NAMES: Final[Mapping[str, Phonemes]] = {
    letter: tuple(sounds.split())
    for letter, sounds in {
        "a": "ey1", "b": "b iy1", "c": "s iy1", "d": "d iy1", "e": "iy1", "f": "eh1 f", "g": "jh iy1", "h": "ey1 ch",
        "i": "ay1", "j": "jh ey1", "k": "k ey1", "l": "eh1 l", "m": "eh1 m", "n": "eh1 n", "o": "ow1", "p": "p iy1",
        "q": "k y uw1", "r": "aa1 r", "s": "eh1 s", "t": "t iy1", "u": "y uw1", "v": "v iy1",
        "w": "d ah1 b ah0 l y uw0", "x": "eh1 k s", "y": "w ay1", "z": "z iy1",
    }.items()
}  # fmt: skip
_VOICELESS: Final = frozenset({"p", "t", "k", "f", "th"})
_SIBILANT: Final = frozenset({"s", "z", "sh", "zh", "ch", "jh"})
_ENDINGS: Mapping[str, Phonemes] = {"ve": ("ah0", "v"), "ll": ("ah0", "l"), "d": ("ah0", "d")}
_MOST_ACRONYM_LETTERS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """Words spoken without a pause, and the mark that ends them (one of MARKS).

    Words are in lower case; a single capital letter is the letter's name.
    """

    words: tuple[str, ...]
    mark: str


@dataclass(frozen=True, kw_only=True)
class PhonemeSequence:
    """Phonemes of an utterance, P of them: PAUSE first, then those of each phrase and its mark.

    `word_P`: for each phoneme the number of its word, counted over the utterance; -1 for PAUSE and marks.
    """

    phonemes_P: tuple[str, ...]
    word_P: tuple[int, ...]


def is_vowel(phoneme: str) -> bool:
    """Whether a phoneme is a vowel, with or without its stress digit."""
    return phoneme.rstrip("012") in VOWELS


@dataclass(frozen=True, kw_only=True)
class Pronouncer:
    """Pronounces any word of ASCII letters and apostrophes.

    `dictionary`: phonemes by lower-case word. `sound_out`: letter-to-sound for a word that the dictionary lacks; it
    takes lower-case letters.
    """

    dictionary: Mapping[str, Phonemes]
    sound_out: Callable[[str], Phonemes]
    weak_forms: Mapping[str, Phonemes] = field(default_factory=lambda: WEAK_FORMS)

    @property
    def words(self) -> Mapping[str, Phonemes]:
        """The dictionary."""
        return self.dictionary

    def with_words(self, words: Mapping[str, Phonemes]) -> Pronouncer:
        """The same with other pronunciations of some words."""
        own = {word.lower() if len(word) > 1 else word: sounds for word, sounds in words.items()}
        weak = {key: sounds for key, sounds in self.weak_forms.items() if key.rstrip("~") not in own}
        return replace(self, dictionary=ChainMap(own, cast("dict[str, Phonemes]", self.dictionary)), weak_forms=weak)

    def phrase_words(self, words: Sequence[str], given: Mapping[int, Phonemes] | None = None) -> list[Phonemes]:
        """Phonemes of each word of a phrase. A single capital letter is the letter's name.

        `given`: phonemes of some words, by their place.
        """
        spoken: list[Phonemes] = []
        for index in reversed(range(len(words))):
            sounds = (given or {}).get(index)
            if sounds is None and spoken:
                sounds = self._weak(words[index], before_vowel=is_vowel(spoken[-1][0]))
            spoken.append(sounds or self.pronounce(words[index]))
        return spoken[::-1]

    def _weak(self, word: str, *, before_vowel: bool) -> Phonemes | None:
        if word.isupper():
            return None
        key = word
        if before_vowel and f"{key}~" in self.weak_forms:
            return self.weak_forms[f"{key}~"]
        return self.weak_forms.get(key)

    def pronounce(self, word: str) -> Phonemes:
        """Phonemes of a word alone; never empty where it has a letter."""
        key = word.lower()
        if len(word) == 1 and word.isupper():
            return self.dictionary.get(word) or spell(word)
        if known := self.dictionary.get(key):
            return known
        is_acronym = word.isupper() and len(word) <= _MOST_ACRONYM_LETTERS
        if len(word) == 1 or is_acronym or not re.search("[aeiouy]", key):
            return spell(word)
        base, apostrophe, suffix = key.rpartition("'")
        if apostrophe and suffix == "s" and base:
            return with_s(self.pronounce(base))
        if suffix in _ENDINGS and (base in self.dictionary or "'" in base):
            return self.pronounce(base) + _ENDINGS[suffix]
        if not apostrophe and key.endswith("s") and (single := self.dictionary.get(key[:-1])):
            return with_s(single)
        return self.sound_out(key.replace("'", "")) or spell(word)


def read_phrases(phrases: Sequence[Phrase], pronouncer: Pronouncer) -> PhonemeSequence:
    """Phonemes of an utterance."""
    phonemes, words, number = [PAUSE], [-1], 0
    for phrase in phrases:
        for sounds in pronouncer.phrase_words(phrase.words):
            phonemes += sounds
            words += [number] * len(sounds)
            number += 1
        phonemes.append(phrase.mark)
        words.append(-1)
    return PhonemeSequence(phonemes_P=tuple(phonemes), word_P=tuple(words))


def spell(word: str) -> Phonemes:
    """The names of a word's letters."""
    return tuple(sound for letter in word.lower() for sound in _LETTER_NAMES.get(letter, ()))


def with_s(base: Phonemes, vowel: str = "ih0") -> Phonemes:
    """A word's phonemes with the ending of a possessive or plural; `vowel` separates it from a sibilant."""
    if base[-1] in _SIBILANT:
        return (*base, vowel, "z")
    return (*base, "s" if base[-1] in _VOICELESS else "z")
