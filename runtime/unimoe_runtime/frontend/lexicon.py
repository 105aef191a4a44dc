"""Pronunciations: a lexicon, and letter-to-sound rules for every other word. Both are data files.

    lexicon.tsv           word <TAB> phonemes; a single capital letter is that letter's name, and `the~` is the form
                          of `the` before a vowel
    letter_to_sound.tsv   left <TAB> letter <TAB> right <TAB> phonemes

A rule gives the phonemes of a letter between a left and a right context ("#" is the edge of the word, "-" no
sound). The longest context with a rule wins: contexts are tried in the order of `CONTEXTS`, last to first. Each letter
has a rule without any context, so every word has a reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path

from unimoe_runtime.errors import BundleError
from unimoe_runtime.files.text import read_lines
from unimoe_runtime.frontend.pronunciation import Phonemes, with_s

RuleKey = tuple[str, str, str]
"""Left context, letter, right context."""

EDGE = "#"
SILENT = "-"
BEFORE_VOWEL = "~"
VOWELS = frozenset("aa ae ah ao aw ax axr ay eh el em en er ey ih iy ow oy uh uw".split())
CONTEXTS = ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3))
"""Numbers of context letters to the left and to the right, from the most general to the most specific."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Table:
    """A tab-separated file. Its rows are split when the first one is looked up: opening a bundle needs none of them."""

    def __init__(self, path: Path, num_columns: int) -> None:
        """Raises BundleError with file and line where a row has another number of columns."""
        self._lines = lines = read_lines(path, BundleError)
        if set(map(str.count, lines, repeat("\t"))) - {num_columns - 1}:
            found = (line.count("\t") + 1 for line in lines)
            number, count = next((number, count) for number, count in enumerate(found, start=1) if count != num_columns)
            raise BundleError(f"{path}:{number}: has {count} columns, not {num_columns}; export again")

    @cached_property
    def rows(self) -> Mapping[str, str]:
        """The last column by the other columns, with their tabs."""
        return {key: last for key, _, last in map(str.rpartition, self._lines, repeat("\t"))}

    def lacks(self, keys: Iterable[str]) -> Iterator[str]:
        """The keys that no line begins with."""
        text = "\n".join(["", *self._lines])
        return (key for key in keys if f"\n{key}\t" not in text)


class WrittenPhonemes(Mapping[str, Phonemes]):
    """Words and their phonemes as a line holds them. A lookup splits them: a text needs few of a lexicon's words."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __getitem__(self, word: str) -> Phonemes:
        return tuple(self._table.rows[word].split())

    def __contains__(self, word: object) -> bool:
        return word in self._table.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.rows)

    def __len__(self) -> int:
        return len(self._table.rows)


class WrittenRules(Mapping[RuleKey, Phonemes]):
    """Rules as the lines of their file hold them."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __getitem__(self, key: RuleKey) -> Phonemes:
        written = self._table.rows["\t".join(key)]
        return () if written == SILENT else tuple(written.split())

    def __iter__(self) -> Iterator[RuleKey]:
        for written in self._table.rows:
            left, letter, right = written.split("\t")
            yield left, letter, right

    def __len__(self) -> int:
        return len(self._table.rows)


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """Pronunciations of words, and rules with the key (left, letter, right)."""

    words: Mapping[str, Phonemes]
    rules: Mapping[RuleKey, Phonemes]

    @classmethod
    def read(cls, words_path: Path, rules_path: Path) -> Lexicon:
        """Read both files. Raises BundleError with file and line where one is not as described above."""
        words, rules = Table(words_path, 2), Table(rules_path, 4)
        missing = [key.strip("\t") for key in rules.lacks(f"\t{letter}\t" for letter in _LETTERS)]
        missing += words.lacks(_LETTERS.upper())
        if missing:
            raise BundleError(f"{rules_path.parent}: there is no reading for the letter {missing[0]!r}; export again")
        return cls(words=WrittenPhonemes(words), rules=WrittenRules(rules))

    def phrase(self, words: Sequence[str]) -> list[str]:
        """Phonemes of words spoken without a pause."""
        return [sound for sounds in self.phrase_words(words) for sound in sounds]

    def phrase_words(self, words: Sequence[str], given: Mapping[int, Phonemes] | None = None) -> list[Phonemes]:
        """Phonemes of each word of a phrase. `given`: those of some words, by their place."""
        given = given or {}
        spoken: list[Phonemes] = []
        first = ""  # the first phoneme of the next word
        for index in reversed(range(len(words))):
            weak = self.words.get(words[index].lower() + BEFORE_VOWEL) if first in VOWELS else None
            sounds = given.get(index) or weak or self.pronounce(words[index])
            first = sounds[0] if sounds else first
            spoken.append(sounds)
        return spoken[::-1]

    def with_words(self, words: Mapping[str, Phonemes]) -> Lexicon:
        """The lexicon with other pronunciations of some words."""
        lowered = {word.lower() if len(word) > 1 else word: sounds for word, sounds in words.items()}
        weak = {f"{word}{BEFORE_VOWEL}": sounds for word, sounds in lowered.items()}
        weak = {word: sounds for word, sounds in weak.items() if word in self.words}
        return Lexicon(words={**self.words, **lowered, **weak}, rules=self.rules)

    def pronounce(self, word: str) -> Phonemes:
        """Phonemes of a word of ASCII letters and apostrophes; never empty where there is a letter.

        A single capital letter is the letter's name.
        """
        if len(word) == 1 and word in self.words and word.isupper():
            return self.words[word]
        known = self.words.get(word.lower())
        if known:
            return known
        base, apostrophe, suffix = word.lower().rpartition("'")
        if apostrophe and suffix == "s" and base:
            return with_s(self.pronounce(base.upper() if len(base) == 1 else base), "ih")
        if len(word) == 1 or (word.isupper() and len(word) <= 5) or not re.search("[aeiouy]", word.lower()):
            return self.spell(word)
        return self.sound_out(word.lower().replace("'", "")) or self.spell(word)

    def spell(self, word: str) -> Phonemes:
        """The names of a word's letters."""
        return tuple(sound for letter in word.upper() if letter != "'" for sound in self.words[letter])

    def sound_out(self, word: str) -> Phonemes:
        """Phonemes of lower-case letters, from the rules only."""
        return tuple(sound for index in range(len(word)) for sound in apply_rules(self.rules, word, index))


def apply_rules(rules: Mapping[RuleKey, Phonemes], word: str, index: int) -> Phonemes:
    """Phonemes of one letter of a word: those of the rule with the longest context."""
    for left, right in reversed(CONTEXTS):
        sounds = rules.get(context(word, index, left, right))
        if sounds is not None:
            return sounds
    return ()


def context(word: str, index: int, left: int, right: int) -> RuleKey:
    """A letter with its neighbours in the form of a rule's key; at an edge the context holds one edge sign."""
    padded = f"{EDGE}{word}{EDGE}"
    at = index + 1
    return padded[max(0, at - left) : at], padded[at], padded[at + 1 : at + 1 + right]
