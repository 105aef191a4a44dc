"""The tense of verbs whose past form is spelled like their base form: `I read it yesterday`, `Did you read it?`

The word that governs the verb decides: an auxiliary, beside the verb or before its subject. Else the subject does,
because the present of `she read` has an s. Else the verb before a coordination does, then the times of the sentence.
Everything is looked up within REACH words, so that a sentence takes time in proportion to its length.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from unimoe_runtime.frontend.tense_words import TenseWords

COMMA: Final = ","
"""Stands between the phrases of a sentence."""
REACH: Final = 16
_LONGEST_NAME = 3  # words of a subject after its determiner, or without one
_LONGEST_TIME = 3  # words of an entry of `past_times`


def is_after_inversion(words: Sequence[str], at: int, tables: TenseWords) -> bool:
    """Whether an auxiliary and a subject are before the word there: `does your company produce`."""
    start = at - 1
    while start >= max(0, at - REACH) and tables.is_adverb(words[start]):
        start -= 1
    shortest, start = start, start - 1
    while start >= max(0, shortest - _LONGEST_NAME) and words[start] not in tables.auxiliaries:
        start -= 1
    subject = words[start + 1 : shortest + 1]
    starts = start in range(1) or (start > 0 and words[start - 1] in tables.subordinators)
    return starts and words[start] in tables.auxiliaries and bool(subject) and subject[-1] not in tables.determiners


def is_past(words: Sequence[str], at: int, tables: TenseWords) -> bool:
    """Whether a verb is a past form or a participle. `words`: those of a sentence, with COMMA between phrases."""
    return _Verb(words[max(at - REACH, 0) : at], words[at + 1 : at + 1 + REACH], tables).is_past()


class _Verb:
    """A verb between the words `left` and `right` of it in its sentence."""

    def __init__(self, left: Sequence[str], right: Sequence[str], tables: TenseWords) -> None:
        self.left, self.right, self.tables = left, right, tables
        self.adverbs: set[str] = set()

    def is_past(self) -> bool:
        left, tables = self.left, self.tables
        at = len(left) - 1
        while at >= 0 and tables.is_adverb(left[at]):
            self.adverbs.add(left[at])
            at -= 1
        word = left[at] if at >= 0 else COMMA
        if word in tables.had_or_would:
            return self._had_times()
        is_part = at >= 1 and left[at - 1] == "of"  # of a subject: "one of them"
        if word in tables.auxiliaries or (word in tables.before_base and not is_part):
            return False
        if word in tables.perfect_auxiliaries:
            return True
        if word == COMMA or word in tables.coordinators:
            return self._is_participle() or self._follows_past_verb(at)
        if word in tables.determiners or word in tables.noun_adjectives:
            return self._is_participle()  # else a noun: "a good read"
        is_pronoun = word in tables.singular_subjects or word in tables.plural_subjects
        if is_pronoun and not is_part and (at == 0 or left[at - 1] not in tables.determiners):
            return self._after_pronoun(at)
        if word in tables.relatives:
            return self._after_relative(at)
        if word in tables.before_participle:
            return True
        if word in tables.prepositions or word in tables.subordinators or word in tables.addressees:
            return False
        return self._after_noun(at)

    def _is_participle(self) -> bool:
        """`already read`, `a widely read book`."""
        return not self.adverbs.isdisjoint(self.tables.participle_adverbs)

    def _had_times(self) -> bool:
        """`I'd already read it`, but `I'd read it if I could`."""
        told = self._is_participle() or not self.adverbs.isdisjoint(self.tables.past_adverbs)
        return told or self._has_time(self.tables.past_times)

    def _governed(self, at: int) -> bool | None:
        """What the word before a subject says: True for `have`, False for `did` and `let`, None for any other."""
        tables, word = self.tables, self.left[at] if at >= 0 else ""
        if word in tables.causative_perfects and at and self._asks_for_it(self.left[at - 1]):
            return False
        if word in tables.perfect_auxiliaries or word in tables.wishes:
            return True
        return False if word in tables.auxiliaries or word in tables.causatives else None

    def _asks_for_it(self, before: str) -> bool:
        """Whether the `have` after that word is one that lets somebody do something: I'll have him read it."""
        return before in self.tables.believers or before in self.tables.auxiliaries or before in self.tables.before_base

    def _subject(self, at: int) -> tuple[list[str], int]:
        """The nouns of the subject that ends there, and the words between them, last first; and the place before it.

        `the boys in my class` has `class`, `in` and `boys`.
        """
        tables, nouns = self.tables, [self.left[at]]
        while True:
            start = at
            while start >= max(0, at - _LONGEST_NAME) and not self._bounds(start):
                start -= 1
            if start >= 0 and self.left[start] in tables.determiners:
                start -= 1
            link = self.left[start] if start >= 1 else ""
            if link not in tables.prepositions and link not in tables.joiners:
                return nouns, start
            nouns += [link, self.left[start - 1]]
            at = start - 1

    def _after_pronoun(self, at: int) -> bool:
        before = at - 1
        governed = self._governed(before)
        if governed is not None:
            return governed
        if before >= 1 and self.left[before] == "that" and self.left[before - 1] in self.tables.demands:
            return False
        return self.left[at] in self.tables.singular_subjects or self._sentence_is_past(before)

    def _after_relative(self, at: int) -> bool:
        """`the man who read it`, but `people who read`; `who read it?`, but `did that read well?`"""
        governed = self._governed(at - 1)
        if governed is not None:
            return governed
        before = self.left[at - 1] if at else ""
        return self._sentence_is_past(at - 1) if self.tables.is_plural(before) else True

    def _after_noun(self, at: int) -> bool:
        """A subject of several words, such as `my little brother`, `Anna` or `one of them`."""
        tables = self.tables
        nouns, before = self._subject(at)
        governed = self._governed(before)
        if governed is not None:
            return governed
        if any(noun in tables.single_parts for noun in nouns):
            return True
        if any(tables.is_plural(noun) or noun in tables.before_base or noun in tables.joiners for noun in nouns):
            return self.right[:1] == ["by"] or self._sentence_is_past(before)
        return before < 0 or self._bounds(before) or self._bounds(before + 1) or self._sentence_is_past(before)

    def _bounds(self, at: int) -> bool:
        """Whether the word there is no part of the name of a subject."""
        word, tables = self.left[at], self.tables
        groups = (
            tables.determiners, tables.auxiliaries, tables.perfect_auxiliaries, tables.causatives, tables.coordinators,
            tables.subordinators, tables.relatives, tables.prepositions, tables.wishes,
        )  # fmt: skip
        return word == COMMA or any(word in group for group in groups)

    def _follows_past_verb(self, at: int) -> bool:
        """Whether the verb that this one is coordinated with is a past form: `she sat down and read`."""
        tables = self.tables
        parted = False
        for place in range(at, -1, -1):
            word = self.left[place]
            parted = parted or word == COMMA
            if word in tables.auxiliaries or word in tables.before_base:
                return False
            if tables.is_past_verb(self.left, place) or word in tables.perfect_auxiliaries:
                return not (parted and self._is_subordinate(place))
        return False

    def _is_subordinate(self, at: int) -> bool:
        """Whether the clause of the word there starts with `when` and the like."""
        for place in range(at, -1, -1):
            if self.left[place] == COMMA:
                return False
            if self.left[place] in self.tables.subordinators:
                return True
        return False

    def _sentence_is_past(self, before: int) -> bool:
        """Whether the sentence is one about the past. `before`: the place before the subject."""
        tables = self.tables
        if self._has_time(tables.past_times) or self._is_asked(before):
            return True
        if any(word in tables.present_times for word in (*self.left, *self.right)):
            return False
        if self._is_participle() or not self.adverbs.isdisjoint(tables.past_adverbs):
            return True
        if self._is_believed(before) or self._is_object(before):
            return True
        conditional = before >= 0 and self.left[before] in tables.subordinators
        if not conditional and self.right and self.right[0] in tables.past_objects:
            return True
        return any(self._is_told(words, at, before) for words in (self.left, self.right) for at in range(len(words)))

    def _is_asked(self, before: int) -> bool:
        """`she asked us if you read it`"""
        asks = before > 0 and self.left[before] in self.tables.subordinators
        return asks and any(word in self.tables.askers for word in self.left[max(0, before - 3) : before])

    def _is_believed(self, before: int) -> bool:
        """`I think I read it`: nobody doubts what they do every day. Not `I think I read well`."""
        tables, left = self.tables, self.left
        at = before - 1 if before > 0 and left[before] in tables.relatives else before
        believed = at >= 0 and left[at] in tables.beliefs and left[before + 1] in tables.believers
        return believed and bool(self.right) and self.right[0] in tables.believed_objects

    def _is_object(self, before: int) -> bool:
        """`everything they read was wrong`, `the last book I read`: what was read stands before the subject."""
        tables = self.tables
        if before >= 0 and self.right and self.right[0] in tables.past_mains:
            return True
        is_joined = before >= 0 and self.left[before] != COMMA
        return is_joined and any(word in tables.latest for word in self.left[max(0, before - 2) : before])

    def _is_told(self, words: Sequence[str], at: int, subject: int) -> bool:
        """Whether the word there is a past verb after its subject, a conjunction or an adverb, or after a modal.

        `subject`: the place before the subject of the clause. `I must have left by the time you read it` tells nothing.
        """
        tables, before = self.tables, words[at - 1] if at else ""
        groups = (tables.singular_subjects, tables.plural_subjects, tables.relatives, tables.coordinators)
        told = before == COMMA or tables.is_adverb(before) or any(before in group for group in groups)
        if told and tables.is_past_verb(words, at):
            return True
        return not (subject >= 0 and self.left[subject] in tables.open_times) and tables.follows_perfect(words, at)

    def _has_time(self, times: Collection[str]) -> bool:
        for words in (self.left, self.right):
            for at in range(len(words)):
                if any(" ".join(words[at : at + size]) in times for size in range(1, _LONGEST_TIME + 1)):
                    return True
        return False
