"""Learns letter-to-sound rules from pronounced words; the runtime reads them (`unimoe_runtime.frontend.lexicon`).

Each word's phonemes are aligned with its letters (`letter_alignment`). Rules are then collected from general to special
contexts. A rule is kept where its context is frequent enough and its phonemes differ from those of the more general
rules (the idea of van den Bosch and Daelemans, IGTree, 1993).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from unimoe.training.letter_alignment import Table, align_words, learn_shares
from unimoe_runtime.frontend.lexicon import CONTEXTS, apply_rules, context
from unimoe_runtime.frontend.pronunciation import Phonemes

Rules = dict[tuple[str, str, str], Phonemes]


def learn_rules(words: Mapping[str, Phonemes], *, min_count: int = 2) -> Rules:
    """Rules for the letters a … z from a lexicon of lower-case words.

    `min_count`: how many more words must show a special context's phonemes than the general ones for it to get a rule.
    """
    table = learn_shares(words)
    aligned = align_words(words, table)
    rules: Rules = {("", letter, ""): _best(table, letter) for letter in "abcdefghijklmnopqrstuvwxyz"}
    for left, right in CONTEXTS[1:]:
        seen: defaultdict[tuple[str, str, str], Counter[Phonemes]] = defaultdict(Counter)
        general: dict[tuple[str, str, str], Phonemes] = {}
        for word, shares in aligned.items():
            for index, sounds in enumerate(shares):
                key = context(word, index, left, right)
                seen[key][sounds] += 1
                if key not in general:
                    general[key] = apply_rules(rules, word, index)
        for key, counts in seen.items():
            sounds, count = counts.most_common(1)[0]
            gain = count - counts[general[key]]
            if gain >= min_count:
                rules[key] = sounds
    return rules


def _best(table: Table, letter: str) -> Phonemes:
    """Most likely phonemes of a letter without context. Only contexts can make a vowel silent."""
    sounds = {sound: share for sound, share in table.get(letter, {}).items() if sound or letter not in "aeiou"}
    return max(sounds, key=lambda sound: sounds[sound]) if sounds else ()
