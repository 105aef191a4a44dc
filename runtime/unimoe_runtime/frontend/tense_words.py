"""The words that show the tense of a verb near them: tables of a language (`tense.tsv`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Final


@dataclass(frozen=True, kw_only=True)
class TenseWords:
    """Words that show the tense of a verb near them; each field is a table of the language.

    `adverb_endings` and `past_endings` are ends of words, with the exceptions `not_adverbs` and `not_past_verbs`.
    """

    auxiliaries: Collection[str] = ()
    perfect_auxiliaries: Collection[str] = ()
    had_or_would: Collection[str] = ()
    before_base: Collection[str] = ()
    causatives: Collection[str] = ()
    causative_perfects: Collection[str] = ()
    wishes: Collection[str] = ()
    demands: Collection[str] = ()
    adverbs: Collection[str] = ()
    adverb_endings: Collection[str] = ()
    not_adverbs: Collection[str] = ()
    past_adverbs: Collection[str] = ()
    participle_adverbs: Collection[str] = ()
    singular_subjects: Collection[str] = ()
    plural_subjects: Collection[str] = ()
    single_parts: Collection[str] = ()
    addressees: Collection[str] = ()
    relatives: Collection[str] = ()
    determiners: Collection[str] = ()
    noun_adjectives: Collection[str] = ()
    joiners: Collection[str] = ()
    coordinators: Collection[str] = ()
    subordinators: Collection[str] = ()
    before_participle: Collection[str] = ()
    open_times: Collection[str] = ()
    prepositions: Collection[str] = ()
    past_times: Collection[str] = ()
    present_times: Collection[str] = ()
    past_objects: Collection[str] = ()
    past_mains: Collection[str] = ()
    latest: Collection[str] = ()
    askers: Collection[str] = ()
    beliefs: Collection[str] = ()
    believers: Collection[str] = ()
    believed_objects: Collection[str] = ()
    past_modals: Collection[str] = ()
    past_modals_have: Collection[str] = ()
    participles: Collection[str] = ()
    past_verbs: Collection[str] = ()
    past_endings: Collection[str] = ()
    not_past_verbs: Collection[str] = ()

    def is_adverb(self, word: str) -> bool:
        """Whether a word can stand between a subject and its verb."""
        ends = word.endswith(tuple(self.adverb_endings)) and word not in self.not_adverbs
        return ends or any(word in one for one in (self.adverbs, self.past_adverbs, self.participle_adverbs))

    def is_past_verb(self, words: Sequence[str], at: int) -> bool:
        """Whether the word there is the past of a verb, and no adjective such as `used` in `a used car`."""
        word, before = words[at], words[at - 1] if at else ""
        ends = word.endswith(tuple(self.past_endings)) and word not in self.not_past_verbs
        return (ends or word in self.past_verbs) and before not in self.determiners and before not in self.prepositions

    def follows_perfect(self, words: Sequence[str], at: int) -> bool:
        """Whether the word there is a participle after `had` or a modal: `could have sworn`, `I'd thought`."""
        if words[at] not in self.participles and not self.is_past_verb(words, at):
            return False
        have = self._before_adverbs(words, at)
        word = words[have] if have >= 0 else ""
        if word in self.had_or_would or word in self.past_modals_have:
            return True
        modal = self._before_adverbs(words, have) if word in self.causative_perfects else -1
        return modal >= 0 and words[modal] in self.past_modals

    def _before_adverbs(self, words: Sequence[str], at: int) -> int:
        """The place before the adverbs that precede the word there; -1 at the start."""
        at -= 1
        while at >= 0 and self.is_adverb(words[at]):
            at -= 1
        return at

    def is_plural(self, word: str) -> bool:
        """Whether a noun is a plural."""
        return word in self.plural_subjects or (word.endswith("s") and not word.endswith(("ss", "us", "is", "'s")))


TENSE_WORDS: Final = tuple(one.name for one in fields(TenseWords))
