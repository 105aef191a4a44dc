"""Words that are spelled alike and pronounced by their use: `close the door`, `a close friend`.

The readings and the words that decide between them are a language's tables (`homographs.tsv`). The neighbours in the
phrase decide: fixed phrases first, then the word before, then the word after. A phrase that starts with such a word is
a command where another word follows. The past of `read` depends on the whole sentence (`tense.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Final

from unimoe_runtime.frontend.pronunciation import Phonemes, with_s
from unimoe_runtime.frontend.protocols import Pronunciations
from unimoe_runtime.frontend.tense import COMMA, REACH, is_after_inversion, is_past
from unimoe_runtime.frontend.tense_words import TenseWords

STAR: Final = "*"
"""Precedes the word of a fixed phrase whose phonemes are given."""


@dataclass(frozen=True, kw_only=True)
class Uses:
    """A word's phonemes as a noun or an adjective, and as a verb.

    `third_person`: it is one that ends with s. `starts_command`: it is a verb where a phrase starts with it.
    `usually_verb`: it is a verb where its neighbours do not decide.
    """

    noun: Phonemes
    verb: Phonemes
    third_person: bool = False
    starts_command: bool = False
    usually_verb: bool = False


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Words that show the use of the word beside them."""

    before_noun: Collection[str] = ()
    before_verb: Collection[str] = ()
    before_third_person: Collection[str] = ()
    after_noun: Collection[str] = ()
    after_verb: Collection[str] = ()


NEIGHBOURS: Final = tuple(one.name for one in fields(Neighbours))


@dataclass(frozen=True, kw_only=True)
class Homographs:
    """The homographs of a language.

    `fixed`: phonemes by a phrase of lower-case words, one of which follows STAR. `past`: those of the past form of a
    verb, by the word. `names`: those of words with a capital that are others without one.
    """

    uses: Mapping[str, Uses] = field(default_factory=dict)
    neighbours: Neighbours = field(default_factory=Neighbours)
    fixed: Mapping[tuple[str, ...], Phonemes] = field(default_factory=dict)
    past: Mapping[str, Phonemes] = field(default_factory=dict)
    names: Mapping[str, Phonemes] = field(default_factory=dict)
    tense: TenseWords = field(default_factory=TenseWords)

    def phrase(self, words: Sequence[str]) -> dict[int, Phonemes]:
        """Phonemes of the homographs in a phrase that is a sentence, by their place."""
        return self.sentence([words])[0]

    def sentence(self, phrases: Sequence[Sequence[str]]) -> list[dict[int, Phonemes]]:
        """Phonemes of the homographs in each phrase of a sentence, by their place in the phrase."""
        names = [{at: self.names[word] for at, word in enumerate(words) if word in self.names} for words in phrases]
        if any(names):
            phrases = [[word.lower() if word in self.names else word for word in words] for words in phrases]
        found = [
            named | {at: self._sounds(words, at) for at, word in enumerate(words) if word in self.uses}
            for named, words in zip(names, phrases, strict=True)
        ]
        if any(word in self.past for words in phrases for word in words):
            sentence = [word for words in phrases for word in (*words, COMMA)]
            start = 0
            for words, sounds in zip(phrases, found, strict=True):
                for at, word in enumerate(words):
                    if word in self.past and is_past(sentence, start + at, self.tense):
                        sounds[at] = self.past[word]
                start += len(words) + 1
        return [sounds | self._fixed(words) for words, sounds in zip(phrases, found, strict=True)]

    def without(self, words: Collection[str]) -> Homographs:
        """The same, without those words."""
        uses = {word: one for word, one in self.uses.items() if word not in words}
        fixed = {
            phrase: sounds
            for phrase, sounds in self.fixed.items()
            if not any(word[0] == STAR and word[1:] in words for word in phrase)
        }
        past = {word: sounds for word, sounds in self.past.items() if word not in words}
        names = {word: sounds for word, sounds in self.names.items() if word.lower() not in words}
        return replace(self, uses=uses, fixed=fixed, past=past, names=names)

    @cached_property
    def _starred(self) -> frozenset[str]:
        return frozenset(word[1:] for phrase in self.fixed for word in phrase if word[0] == STAR)

    def _fixed(self, words: Sequence[str]) -> dict[int, Phonemes]:
        found: dict[int, Phonemes] = {}
        if self._starred.isdisjoint(words):
            return found
        longest = max(map(len, self.fixed), default=0)
        for length in range(1, longest + 1):  # longer phrases replace what shorter ones gave
            for start in range(len(words) - length + 1):
                window = tuple(words[start : start + length])
                for at, word in enumerate(window):
                    sounds = self.fixed.get((*window[:at], STAR + word, *window[at + 1 :]))
                    if sounds is not None:
                        found[start + at] = sounds
        return found

    def _sounds(self, words: Sequence[str], at: int) -> Phonemes:
        use, beside = self.uses[words[at]], self.neighbours
        before = words[at - 1] if at else ""
        after = words[at + 1] if at + 1 < len(words) else ""
        before_verb = beside.before_third_person if use.third_person else beside.before_verb
        is_verb = use.usually_verb
        if before in before_verb:
            is_verb = after != "of"
        elif self._follows(words, at, before_verb):
            is_verb = after not in beside.after_noun
        elif before in beside.before_noun or after in beside.after_noun:
            is_verb = False
        elif after in beside.after_verb:
            is_verb = True
        elif not before and after:
            is_verb = use.starts_command
        return use.verb if is_verb else use.noun

    def _follows(self, words: Sequence[str], at: int, before_verb: Collection[str]) -> bool:
        """Whether one of the words before a verb stands before its adverbs, or an auxiliary before its subject."""
        start = at
        while start and at - start < REACH and self.tense.is_adverb(words[start - 1]):
            start -= 1
        follows = 0 < start < at and words[start - 1] in before_verb
        return follows or (
            words[at - 1] not in self.neighbours.before_noun and is_after_inversion(words, at, self.tense)
        )


def uses_of(
    nouns: Mapping[str, Phonemes],
    verbs: Mapping[str, Phonemes],
    *,
    adjectives: Collection[str],
    usual_verbs: Collection[str],
    but: Collection[str],
) -> dict[str, Uses]:
    """Uses of the words in both tables, and of those with a further s, except the words in `but`."""
    found: dict[str, Uses] = {}
    for word, noun in nouns.items():
        verb = verbs.get(word)
        if verb is None:
            continue
        ending = "es" if word.endswith(("s", "x")) else "s"
        found[word] = Uses(noun=noun, verb=verb, starts_command=word not in adjectives)
        found[word + ending] = Uses(noun=with_s(noun), verb=with_s(verb), third_person=True)
    return {word: replace(use, usually_verb=word in usual_verbs) for word, use in found.items() if word not in but}


@dataclass(frozen=True, kw_only=True)
class ByUse:
    """Pronunciations with homographs read by their use."""

    lexicon: Pronunciations
    homographs: Homographs

    @property
    def words(self) -> Mapping[str, Phonemes]:
        return self.lexicon.words

    def pronounce(self, word: str) -> Phonemes:
        """Phonemes of a word alone."""
        return self.homographs.phrase([word]).get(0) or self.lexicon.pronounce(word)

    def sentence(self, phrases: Sequence[Sequence[str]]) -> list[dict[int, Phonemes]]:
        """Phonemes of the homographs in each phrase of a sentence, by their place in the phrase."""
        return self.homographs.sentence(phrases)

    def phrase_words(self, words: Sequence[str], given: Mapping[int, Phonemes] | None = None) -> list[Phonemes]:
        """Phonemes of each word of a phrase. `given`: those of some words, by their place."""
        return self.lexicon.phrase_words(words, self.homographs.phrase(words) | dict(given or {}))

    def with_words(self, words: Mapping[str, Phonemes]) -> ByUse:
        """The same with other pronunciations of some words, whatever their use."""
        own = {word.lower() for word in words}
        return ByUse(lexicon=self.lexicon.with_words(words), homographs=self.homographs.without(own))
